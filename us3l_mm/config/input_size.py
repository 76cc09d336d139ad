"""Find the size of the images that a model gets, by the transforms in its config."""

from typing import Any

from mmcv.transforms import CenterCrop, Pad, Resize
from mmengine.config import Config
from mmpretrain.datasets import EfficientNetCenterCrop, RandomCrop, RandomResizedCrop, ResizeEdge
from torchvision import transforms

from us3l_mm.registry import TRANSFORMS

from .find import LOADERS, find_datasets, find_dicts

# Transforms after which images have one size, and the argument that has it: a side, or width and height ...
_WIDTH_FIRST = {
    Resize: 'scale',
    CenterCrop: 'crop_size',
    EfficientNetCenterCrop: 'crop_size',
    Pad: 'size',
}
# ... or height and width.
_HEIGHT_FIRST = {
    RandomCrop: 'crop_size',
    RandomResizedCrop: 'scale',
    transforms.CenterCrop: 'size',
    transforms.RandomCrop: 'size',
    transforms.RandomResizedCrop: 'size',
    transforms.Resize: 'size',
}


def input_size(cfg: Config) -> tuple[int, int] | None:
    """Find the size of the images that a model gets in tests; where these leave it open, in training.

    Images that are resized with their ratio kept count as the largest wide ones. Sizes are rounded up to
    ``pad_size_divisor`` of the data preprocessor.

    Args:
        cfg (Config): Config.

    Returns:
        tuple[int, int] | None: Height and width in pixels. None if no transform sets them.
    """
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    for _, dataset in find_datasets(cfg, LOADERS[::-1]):
        size = None
        for step in find_dicts([dataset.pipeline, preprocessor.get('transforms')]):
            size = _size_after(transform_class(step, cfg.get('default_scope')), step, size)
        if size is not None:
            return _round_up(size, preprocessor.get('pad_size_divisor') or 1)
    return None


def transform_class(step: dict, scope: str | None) -> type:
    """Find the class of a transform.

    Args:
        step (dict): Its config.
        scope (str, optional): ``default_scope`` of the config.

    Returns:
        type: The class; of torchvision's transforms, which mmpretrain wraps, torchvision's own; of none ``object``.
    """
    kind = step.get('type')
    if isinstance(kind, str):
        with TRANSFORMS.switch_scope_and_registry(step.get('_scope_', scope)) as registry:
            kind = registry.get(kind)
    kind = getattr(kind, 'keywords', {}).get('transform', kind)
    return kind if isinstance(kind, type) else object


def _size_after(kind: type, step: dict, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width after a transform, None if they are open."""
    if issubclass(kind, ResizeEdge) or (kind is transforms.Resize and isinstance(step.get('size'), int)):
        return None
    if issubclass(kind, Resize) and 'width' in step:  # mmdet's FixShapeResize
        return step['height'], step['width']
    if issubclass(kind, Pad) and step.get('pad_to_square'):
        return size and (max(size), max(size))
    if issubclass(kind, Pad) and step.get('size_divisor'):
        return size and _round_up(size, step['size_divisor'])
    for table, order in ((_WIDTH_FIRST, -1), (_HEIGHT_FIRST, 1)):
        for known, name in table.items():
            if issubclass(kind, known):
                sides = _sides(step.get(name))[::order]
                return (min(sides), max(sides)) if sides and step.get('keep_ratio') else sides or None
    return size


def _sides(value: Any) -> tuple[int, ...]:
    """Both sides of a size that may be one number; none of what is no size."""
    return (value, value) if isinstance(value, int) else tuple(value or ())


def _round_up(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width
