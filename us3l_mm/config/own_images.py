"""Train on folders of images of one's own: what a config has to change for them."""

from pathlib import Path

from mmcv.transforms import CenterCrop, LoadImageFromFile, Resize
from mmengine.config import Config, ConfigDict
from mmpretrain.datasets import EfficientNetCenterCrop, RandomResizedCrop, ResizeEdge
from mmpretrain.datasets.custom import find_folders

from us3l_mm.datasets import IMAGE_EXTENSIONS
from us3l_mm.registry import HOOKS, find_class

from .find import LOADERS, find_datasets, find_dicts
from .input_size import transform_class

_TRAIN, _VAL = ('train',), ('val', 'validation', 'valid', 'test')  # names of the folders of the splits
_SIZES = {
    RandomResizedCrop: 'scale',
    Resize: 'scale',
    ResizeEdge: 'scale',
    CenterCrop: 'crop_size',
    EfficientNetCenterCrop: 'crop_size',
}


def use_unlabelled(cfg: Config, root: Path) -> tuple[int, list[str]]:
    """Pretrain on the images in a folder and below.

    Args:
        cfg (Config): Config of a pretraining; changed in place.
        root (Path): The folder. If it has a folder ``train``, only that is used.

    Returns:
        tuple[int, list[str]]: Number of images, and what was derived.

    Raises:
        ValueError: If there is no image, or the config's data set is not one of files.
    """
    folder = _split_folder(root, _TRAIN) or root
    count = _count_images(folder)
    if not count:
        raise ValueError(f'no image in {folder} or below; names of images end in {", ".join(IMAGE_EXTENSIONS)}')
    _use_folder(cfg, 'train_dataloader', folder, type='mmpretrain.CustomDataset', with_label=False)
    return count, [f'{count} images in {folder} and below, without labels', *_use_monitor(cfg, root)]


def use_labelled(cfg: Config, root: Path, val_fraction: float | None = None) -> tuple[int, list[str]]:
    """Train and test on images in folders that are named after their classes.

    Args:
        cfg (Config): Config of a linear probe or a classifier; changed in place. The number of classes follows when
            the config is used, see :func:`number_folders`.
        root (Path): Folder with ``train`` and ``val`` or ``test``, each with a folder for each class; or, with
            ``val_fraction``, a folder for each class.
        val_fraction (float, optional): Share of the images of each class to test on, in (0, 1). The choice goes by
            the names of files.

    Returns:
        tuple[int, list[str]]: Number of images to train on, and what was derived.

    Raises:
        ValueError: If the folder has another layout, or less than two classes.
    """
    train, val = _split_folder(root, _TRAIN), _split_folder(root, _VAL)
    if val_fraction is not None:
        if train is not None and val is not None:
            raise ValueError(f'{root} has {train.name} and {val.name} already; leave --val-fraction out')
        train = val = root
    if train is None or val is None:
        raise ValueError(
            f'{root} needs folders train and val, each with a folder for each class; it has '
            f'{find_folders(str(root))[0]}. If these are the classes: --val-fraction 0.2'
        )
    classes = find_folders(str(train))[0]
    if len(classes) < 2:
        raise ValueError(f'{train} has the folders {classes}; there must be one for each class, two at least')
    count = _count_images(train)
    for key in LOADERS:
        split = 'train' if key == 'train_dataloader' else 'val'
        folder, part = (train if split == 'train' else val), {}
        if val_fraction is not None:
            part = dict(val_fraction=val_fraction, part=split)
        _use_folder(cfg, key, folder, type='us3l_mm.ClassFolders', folders=classes, **part)
    shown = ', '.join(classes[:5]) + (', ...' if classes[5:] else '')
    lines = [f'{len(classes)} classes, the folders of {train}: {shown}']
    if val_fraction is None:
        return count, [*lines, f'{count} images to train on, {_count_images(val)} of {val} to test on']
    return int(count * (1 - val_fraction)), [*lines, f'{val_fraction:.0%} of the images of each class to test on']


def set_image_size(cfg: Config, size: int) -> list[str]:
    """Change the side of the images that the model gets, and the sizes before crops in proportion.

    Args:
        cfg (Config): Config of a pretraining, a linear probe or a classifier; changed in place.
        size (int): Side in pixels.

    Returns:
        list[str]: What was derived.

    Raises:
        ValueError: If training has no ``RandomResizedCrop``, or several of different sizes.
    """
    steps = _steps(cfg, [*(cfg.get(key) for key in (*LOADERS, 'custom_hooks')), cfg.model])
    old = {_side(step.scale) for kind, step in steps if issubclass(kind, RandomResizedCrop)}
    if len(old) != 1:
        raise ValueError(f'--image-size needs RandomResizedCrop of one size in the config, got {sorted(old) or "none"}')
    before = old.pop()

    def scaled(side: int) -> int:
        return side if side <= 0 else round(side * size / before)

    for kind, step in steps:
        for key in (key for known, key in _SIZES.items() if issubclass(kind, known) and step.get(key)):
            step[key] = scaled(step[key]) if isinstance(step[key], int) else tuple(map(scaled, step[key]))
    if 'img_size' in cfg.model.get('backbone', {}):
        cfg.model.backbone.img_size = size
    return [f'images of {size} x {size} pixels in the place of {before} x {before}']


def _steps(cfg: Config, node: object) -> list[tuple[type, ConfigDict]]:
    """List the dicts in a part of a config with the classes of those that are transforms."""
    return [(transform_class(step, cfg.get('default_scope')), step) for step in find_dicts(node)]


def _side(scale: int | tuple[int, int]) -> int:
    return scale if isinstance(scale, int) else max(scale)


def _use_folder(cfg: Config, key: str, folder: Path, **options) -> None:
    """Put a data set of files into a data loader; its pipeline stays, and loads files first."""
    old = [part for _, part in find_datasets(cfg, [key])]
    kinds = [kind for kind, _ in _steps(cfg, old)]
    if len(old) != 1 or not any(issubclass(kind, tuple(_SIZES)) for kind in kinds):
        raise ValueError(
            f'--data-root needs a config whose {key} has a data set with a pipeline that brings images to one size, '
            'such as configs/us3l/r18_4xb128.py; this one is made for other data'
        )
    pipeline = list(old[0].pipeline)
    if not any(issubclass(kind, LoadImageFromFile) for kind in kinds):
        pipeline.insert(0, dict(type='LoadImageFromFile', _scope_='us3l_mm'))
    cfg[key].dataset = ConfigDict(data_root=str(folder), extensions=IMAGE_EXTENSIONS, pipeline=pipeline, **options)


def _use_monitor(cfg: Config, root: Path) -> list[str]:
    """Let a monitor watch a pretraining on a folder: with labels, if beside ``train`` there are classes to test on."""
    if not cfg.train_cfg.get('by_epoch'):
        return []
    monitor, scope = HOOKS.get('us3l_mm.MonitorHook'), cfg.get('default_scope')
    hooks = [(find_class(hook.type, scope, HOOKS), hook) for hook in cfg.get('custom_hooks') or []]
    own = next((hook for kind, hook in hooks if kind is monitor), dict(type='us3l_mm.MonitorHook'))
    val, dataset = _split_folder(root, _VAL), None
    classes = find_folders(str(val))[0] if val is not None else []
    if _split_folder(root, _TRAIN) and len(classes) > 1 and all(_count_images(val / name) for name in classes):
        steps = _steps(cfg, cfg.train_dataloader)
        size = max((_side(step.scale) for kind, step in steps if issubclass(kind, RandomResizedCrop)), default=224)
        pipeline = [
            dict(type='LoadImageFromFile', _scope_='us3l_mm'),
            dict(type='ResizeEdge', scale=round(size * 8 / 7), edge='short'),
            dict(type='CenterCrop', crop_size=size),
            dict(type='PackInputs'),
        ]
        files = dict(data_root=str(val), extensions=IMAGE_EXTENSIONS, pipeline=pipeline)
        dataset = dict(type='us3l_mm.ClassFolders', folders=classes, **files)
    cfg.custom_hooks = [*(hook for kind, hook in hooks if kind is not monitor), dict(own, dataset=dataset)]
    labels = f'labels from {val}' if dataset else 'no labels'
    return [f'us3l_mm.MonitorHook watches every width, with {labels}']


def _split_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _count_images(folder: Path) -> int:
    return sum(path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file() for path in folder.rglob('*'))
