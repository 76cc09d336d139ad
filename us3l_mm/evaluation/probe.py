"""Evaluate a pretrained backbone by linear heads: trained as in the paper, or solved on features of one pass."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.models import GlobalAveragePooling
from torch import Tensor, nn
from torch.utils.data import Dataset

from us3l_mm.config import find_datasets
from us3l_mm.deploy.costs import width_complexity
from us3l_mm.engine import ResumableRunner
from us3l_mm.engine.console import keep_settings_off_screen
from us3l_mm.registry import DATASETS

from .feature_files import cached_features, file_hash
from .features import FeaturesOf, batch_features
from .frozen import Split, frozen_rows


def paper_rows(cfg: Config) -> list[dict[str, Any]]:
    """Train and test the heads of a linear probe by its config: the paper's protocol.

    Args:
        cfg (Config): Config of a linear probe, see :func:`us3l_mm.config.load_config`.

    Returns:
        list[dict[str, Any]]: For each width the keys of :func:`width_complexity`, and top-k accuracies in percent.
    """
    runner = ResumableRunner.from_cfg(cfg)
    same_classes(runner.train_dataloader, runner.test_dataloader)
    runner.train()
    metrics = runner.test()
    rows = []
    for row in costs(cfg, runner.test_loop.dataloader.dataset):
        suffix = f'_w{row["width"]:g}'
        accuracy = {key.split('/')[-1].removesuffix(suffix): v for key, v in metrics.items() if key.endswith(suffix)}
        rows.append({**row, **accuracy})
    return rows


def fast_rows(cfg: Config, checkpoint: str, few: Sequence[str] = (), seeds: int = 3) -> list[dict[str, Any]]:
    """Extract features of all widths in one pass, and evaluate them by :func:`frozen_rows`.

    The images of both splits go through the transforms of the test split. Features are kept in ``features`` of the
    work dir, see :func:`cached_features`.

    Args:
        cfg (Config): Config of a linear probe.
        checkpoint (str): File of ``cfg.model.backbone``'s weights.
        few (Sequence[str]): See :func:`frozen_rows`.
        seeds (int): See :func:`frozen_rows`.

    Returns:
        list[dict[str, Any]]: For each width the keys of :func:`width_complexity` and of :func:`frozen_rows`.

    Raises:
        ValueError: If the neck is no global average pooling, or a class of the test split is not in training.
    """
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    model = MODELS.build(cfg.model)
    if not isinstance(model.neck, (GlobalAveragePooling, nn.Identity)):
        raise ValueError(f'the fast protocol averages feature maps, got model.neck of type {type(model.neck).__name__}')
    keep_settings_off_screen(MMLogger.get_current_instance())
    model.backbone.init_weights()
    model.to(get_device())
    features_of = batch_features(model.backbone, model.widths, model.data_preprocessor)
    source = dict(
        checkpoint=file_hash(checkpoint),
        backbone={key: value for key, value in cfg.model.backbone.items() if key != 'init_cfg'},
        preprocessor=cfg.model.get('data_preprocessor'),
        widths=model.widths,
    )
    found, sets = {}, {}
    for split in ('train', 'test'):
        found[split], sets[split] = _features_of_split(cfg, split, source, features_of)
    features, labels = found['test']
    found['test'] = features, follow_names(labels, *(names_of(sets[split]) for split in ('test', 'train')))
    topk = (cfg.get('test_evaluator') or {}).get('topk') or (1,)
    rows = frozen_rows(found['train'], found['test'], few, seeds, topk)
    return [{**cost, **row} for cost, row in zip(costs(cfg, sets['test']), rows)]


def _features_of_split(
    cfg: Config, split: str, source: dict[str, Any], features_of: FeaturesOf
) -> tuple[Split, Dataset]:
    """Extract the features of a split, by the transforms of the test split, or read them; return its data set too."""
    cfg = copy.deepcopy(cfg)
    pipeline = next(part.pipeline for _, part in find_datasets(cfg, ['test_dataloader']))
    for _, part in find_datasets(cfg, [f'{split}_dataloader']):
        part.pipeline = pipeline
    data = cfg[f'{split}_dataloader'].dataset
    dataset = DATASETS.build(data)
    loader = {**cfg.test_dataloader, 'drop_last': False, 'sampler': dict(type='DefaultSampler', shuffle=False)}
    fingerprint = {**source, 'data': data, 'batch': loader['batch_size']}

    def batches(part: Dataset) -> Iterable[dict]:
        return Runner.build_dataloader({**loader, 'dataset': part}, seed=0)

    return cached_features(Path(cfg.work_dir, 'features', split), fingerprint, dataset, batches, features_of), dataset


def costs(cfg: Config, tested: Dataset) -> list[dict[str, Any]]:
    """Count parameters and MACs of the backbone of a linear probe at each of its widths, see :func:`width_complexity`.

    Args:
        cfg (Config): Config of the probe. Where no transform sets the size of images, that of ``tested`` is taken.
        tested (Dataset): Test split.
    """
    size = cfg.get('input_size') or tuple(tested[0]['inputs'].shape[-2:])
    backbone = MODELS.build({**cfg.model.backbone, 'width': None, 'init_cfg': None})
    return [width_complexity(backbone, width, size) for width in cfg.model.widths]


def names_of(dataset: Any) -> tuple[str, ...] | None:
    """Names of the classes of a data set, None if it has none."""
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return None if names is None else tuple(names)


def follow_names(labels: Tensor, own: Sequence[str] | None, wanted: Sequence[str] | None) -> Tensor:
    """Number labels by the names of classes as another split does.

    Args:
        labels (Tensor): Labels of shape (N,), indices into ``own``.
        own (Sequence[str], optional): Names of the classes of their split.
        wanted (Sequence[str], optional): Names of the classes of the other split. Without both, labels stay.

    Raises:
        ValueError: If the other split lacks a class of these labels.
    """
    if own is None or wanted is None or tuple(own) == tuple(wanted):
        return labels
    lacking = [own[label] for label in labels.unique().tolist() if own[label] not in wanted]
    if lacking:
        raise ValueError(f'classes of the test split that training lacks: {", ".join(lacking[:5])}; add images of them')
    places = torch.tensor([wanted.index(name) if name in wanted else -1 for name in own])
    return places[labels]


def same_classes(train: Any, test: Any) -> None:
    """Check that both data loaders number the classes alike.

    Raises:
        ValueError: If their data sets name others, or in another order.
    """
    names = [names_of(loader.dataset) for loader in (train, test)]
    if None not in names and names[0] != names[1]:
        first = next((pair for pair in zip(*names) if pair[0] != pair[1]), tuple(map(len, names)))
        raise ValueError(
            f'train and test number the classes in another way, first {first[0]!r} and {first[1]!r}: set classes by '
            "--cfg-options classes=... or in both data sets' metainfo"
        )
