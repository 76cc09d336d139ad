"""Fine-tune the plain network of each width, with all labels or with few: semi-supervised learning."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log

from us3l_mm.config import fit_width
from us3l_mm.engine import ResumableRunner
from us3l_mm.slim import width_label
from us3l_mm.utils.files import write_text
from us3l_mm.utils.jobs import write_configs

from .frozen import spread
from .probe import costs, same_classes

_BATCH = 256  # images of a batch that the learning rate is given for


def finetune_rows(cfg: Config, few: Sequence[str] = (), seeds: int = 3, lr: float = 0.05) -> list[dict[str, Any]]:
    """Fine-tune mmpretrain's classifier at each width of a linear probe, with its data and its number of epochs.

    Each training has a folder ``finetune/w<width>/<labels>`` in the work dir, is resumed if it was interrupted, and
    skipped if it is done.

    Args:
        cfg (Config): Config of a linear probe, with ``init_cfg`` of the backbone.
        few (Sequence[str]): Labels to train with, such as ``'1%'`` or ``'10'`` of each class; see
            :func:`us3l_mm.datasets.draw_few`. Defaults to none: all labels.
        seeds (int): Draws of few labels. Defaults to 3.
        lr (float): Learning rate for batches of 256 images, see :func:`finetune_config`. Defaults to 0.05.

    Returns:
        list[dict[str, Any]]: For each width the keys of :func:`width_complexity`, and top-k accuracies in percent, or
        with few labels ``few``: :func:`spread` by entry.

    Raises:
        SystemExit: If a folder was begun with other settings.
    """
    rows = []
    for width in cfg.model.widths:
        folder = Path(cfg.work_dir, 'finetune', f'w{width_label(width)}')
        row: dict[str, Any] = dict(width=width, top1=None)
        if few:
            row['few'] = {}
        for entry in few:
            folders = [folder / f'{entry}-seed{seed}' for seed in range(seeds)]
            draws = [_run(finetune_config(cfg, width, path, lr, entry, seed)) for seed, path in enumerate(folders)]
            row['few'][entry] = spread([draw['metrics']['top1'] for draw in draws])
        if not few:
            draws = [_run(finetune_config(cfg, width, folder / 'all', lr))]
            row.update(draws[0]['metrics'])
        rows.append({**draws[0]['costs'], **row})
    return rows


def finetune_config(
    cfg: Config, width: float, folder: Path, lr: float, few: str | None = None, seed: int = 0
) -> Config:
    """Make the config of a fine-tuning from that of a linear probe.

    SGD with Nesterov's momentum 0.9, without decay, as in SimCLR for few labels (Chen et al., ICML 2020); with a cosine
    to 0 in place of a constant rate.

    Args:
        cfg (Config): Config of a linear probe.
        width (float): Width.
        folder (Path): Work dir.
        lr (float): Learning rate for batches of 256 images.
        few (str, optional): Few labels. Defaults to None: all.
        seed (int): Seed of their draw and of the training. Defaults to 0.
    """
    cfg = copy.deepcopy(cfg)
    probe, epochs, topk = cfg.model, cfg.train_cfg.max_epochs, cfg.test_evaluator.get('topk') or (1,)
    cfg.model = ConfigDict(
        type='mmpretrain.ImageClassifier',
        backbone=probe.backbone,
        neck=probe.get('neck', dict(type='mmpretrain.GlobalAveragePooling')),
        head={**probe.head, 'in_channels': 1},
        data_preprocessor={'num_classes': probe.head.num_classes, **(probe.get('data_preprocessor') or {})},
    )
    fit_width(cfg, width)
    batch = cfg.train_dataloader.batch_size * get_world_size()
    optimizer = dict(type='SGD', lr=lr * batch / _BATCH, momentum=0.9, nesterov=True, weight_decay=0)
    cfg.optim_wrapper = {'type': 'OptimWrapper', **cfg.optim_wrapper, 'optimizer': optimizer}
    cfg.param_scheduler = [dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True)]
    cfg.train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=epochs)
    cfg.val_evaluator = cfg.test_evaluator = dict(type='Accuracy', topk=topk)
    cfg.pop('auto_scale_lr', None)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    if few is not None:
        data = cfg.train_dataloader.dataset
        cfg.train_dataloader.dataset = dict(type='us3l_mm.FewLabels', dataset=data, few=few, seed=seed)
    cfg.work_dir, cfg.resume = str(folder), True
    cfg.experiment_name = '_'.join(folder.parts[-3:])
    return cfg


def _run(cfg: Config) -> dict[str, Any]:
    """Train and test, unless that is done, and return ``metrics`` and ``costs``."""
    folder = Path(cfg.work_dir)
    if is_main_process():
        write_configs(folder, {'finetune': cfg})
    done = folder / 'result.json'
    if done.is_file():
        print_log(f'{folder} is done, skipped', 'current')
        return json.loads(done.read_text())
    runner = ResumableRunner.from_cfg(cfg)
    same_classes(runner.train_dataloader, runner.test_dataloader)
    runner.train()
    metrics = {key.split('/')[-1]: value for key, value in runner.test().items()}
    probed = copy.deepcopy(cfg)
    probed.model.widths = [cfg.model.backbone.width]
    result = dict(metrics=metrics, costs=costs(probed, runner.test_loop.dataloader.dataset)[0])
    if is_main_process():
        write_text(done, json.dumps(result))
    return result
