"""Change the length and the batches of a training together with all that is counted in them."""

import logging
import math
import os

from mmengine.config import Config
from mmengine.logging import print_log

_FAR = 16  # times the batch, from which on a recipe's learning rate does not scale


def set_epochs(cfg: Config, epochs: int) -> list[str]:
    """Change the epochs of a training, and scale the schedules that are counted in epochs.

    Args:
        cfg (Config): Config of a training by epochs; changed in place.
        epochs (int): Epochs to train.

    Returns:
        list[str]: What was derived.

    Raises:
        ValueError: If the training is counted in iterations.
    """
    before = cfg.train_cfg.get('max_epochs')
    if before is None:
        raise ValueError(
            f'--epochs {epochs}, but this training is counted in iterations; set train_cfg.max_iters by --cfg-options'
        )

    def scaled(epoch: int) -> int:
        return epoch * epochs // before

    cfg.train_cfg.max_epochs = epochs
    for part in _schedulers(cfg):
        if not part.get('by_epoch', True):
            continue  # a warm-up of some iterations
        first = part.get('begin', 0)
        if 'T_max' in part:
            part.T_max = max(1, scaled(first + part.T_max) - scaled(first))
        for key in {'begin', 'end'} & part.keys():
            part[key] = scaled(part[key])
        if 'milestones' in part:
            part.milestones = [max(1, scaled(epoch)) for epoch in part.milestones]
        if 'step_size' in part:
            part.step_size = max(1, scaled(part.step_size))
    # A warm-up of some of very few epochs is none.
    kept = [part for part in _schedulers(cfg) if part.get('begin', 0) < part.get('end', math.inf)]
    if 'param_scheduler' in cfg:
        cfg.param_scheduler = kept
    for part in (cfg.train_cfg, cfg.get('default_hooks', {}).get('checkpoint', {})):
        for key in {'val_interval', 'interval'} & part.keys():
            part[key] = min(epochs, part[key]) if part[key] > 0 and part.get('by_epoch', True) else part[key]
    return [f'{epochs} epochs in the place of {before}; schedules of the learning rate are scaled with them']


def set_batch_size(cfg: Config, size: int | None, images: int | None) -> list[str]:
    """Change the images of a batch, and let the learning rate follow.

    Args:
        cfg (Config): Config of a training; changed in place.
        size (int, optional): Images of a batch on one device. None: the config's, or less if the set has less.
        images (int, optional): Images in the set. None: unknown.

    Returns:
        list[str]: What was derived.
    """
    loader, lines = cfg.train_dataloader, []
    if size is None and images is not None and loader.batch_size * _devices() > images:
        size = max(2 ** int(math.log2(images / _devices())), 1)
        lines.append(f'batches of {size} images in the place of {loader.batch_size}, since the set has {images}')
    if size is not None:
        loader.batch_size = size
    for split in ('train', 'val', 'test'):
        workers = cfg.get(f'{split}_dataloader') or {}
        if images is not None and workers.get('num_workers', 0) > (os.cpu_count() or 1):
            workers.num_workers = os.cpu_count()
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    if base is not None and not cfg.auto_scale_lr.get('enable'):
        cfg.auto_scale_lr.enable = True
        if base != loader.batch_size * _devices():
            lines.append(f'the learning rate is that of {base} images an iteration, times the images of yours / {base}')
    if base is not None and base > _FAR * loader.batch_size * _devices():
        print_log(
            f'{loader.batch_size * _devices()} images an iteration are few for a recipe of {base}: its learning rate '
            'becomes too small to learn much; take a config for smaller batches, for a probe such as '
            'configs/linear/r18_1xb256-100e_folder.py',
            'current',
            logging.WARNING,
        )
    return lines


def fit_to_set(cfg: Config, images: int | None) -> list[str]:
    """Let a warm-up in iterations take a tenth of a training at most, and log at least three times an epoch.

    Args:
        cfg (Config): Config of a training; changed in place.
        images (int, optional): Images in the set. None: unknown, and nothing changes.

    Returns:
        list[str]: What was derived.
    """
    if images is None:
        return []
    rounded = math.floor if cfg.train_dataloader.get('drop_last') else math.ceil
    epoch = rounded(images / (cfg.train_dataloader.batch_size * _devices()))
    lines, whole = [], cfg.train_cfg.get('max_iters') or max(1, epoch) * cfg.train_cfg.max_epochs
    for part in _schedulers(cfg):
        most = max(1, whole // 10)
        if not part.get('by_epoch', True) and 'milestones' not in part and most < part.get('end', 0) < math.inf:
            lines.append(f'a warm-up of {most} iterations in the place of {part.end}, a tenth of the training')
            part.end = most
    logger = cfg.get('default_hooks', {}).get('logger')
    if logger is not None and logger.get('interval', 10) > epoch // 3:
        logger.interval = max(1, epoch // 3)
        lines.append(f'a line of log every {logger.interval} iterations; an epoch has {epoch}')
    return lines


def _schedulers(cfg: Config) -> list[dict]:
    found = cfg.get('param_scheduler') or []
    return found if isinstance(found, (list, tuple)) else [found]


def _devices() -> int:
    return int(os.environ.get('WORLD_SIZE', 1))  # of torchrun, before its processes meet
