"""What a calibrated checkpoint tells of its training, as data: the text of a config in it is never executed."""

import json
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner import CheckpointLoader
from torch import nn

from us3l_mm.models import SlimmableBackboneMixin
from us3l_mm.registry import find_class

from .find import find_dicts

_PACKAGES = ('us3l_mm', 'mmpretrain', 'mmdet', 'mmcv', 'mmengine', 'torch')  # whose types are looked up


def describe_backbone(cfg: Config) -> dict[str, Any]:
    """Take from a config what :func:`backbone_of_checkpoint` reads: ``backbone`` and ``pixels``, as plain data."""
    model = cfg.model
    pixels = {key: value for key, value in (model.get('data_preprocessor') or {}).items() if key in ('mean', 'std')}
    return json.loads(json.dumps(dict(backbone={**model.backbone, 'init_cfg': None}, pixels=pixels), default=str))


def backbone_of_checkpoint(path: str) -> tuple[ConfigDict, dict[str, Any]]:
    """Read the config of the slimmable backbone, and what normalised its images.

    Args:
        path (str): Checkpoint that ``tools/calibrate_bn.py`` wrote.

    Returns:
        tuple[ConfigDict, dict[str, Any]]: The backbone without ``init_cfg``; and ``mean`` and ``std``, if it has them.

    Raises:
        ValueError: If the checkpoint does not tell, or names what is no part of a backbone.
    """
    told = _meta(path)
    fix = 'give the config of the pretraining by --config'
    if not isinstance(told.get('backbone'), dict):
        raise ValueError(f'{path} does not tell its backbone, as files of `us3l calibrate` do; {fix}')
    backbone = ConfigDict(told['backbone'])
    backbone.pop('init_cfg', None)
    for part in find_dicts(backbone):
        if 'type' in part or part is backbone:
            kind, base = part.get('type'), SlimmableBackboneMixin if part is backbone else nn.Module
            known = isinstance(kind, str) and ('.' not in kind or kind.split('.')[0] in _PACKAGES)
            found = find_class(kind, 'mmpretrain') if known else None
            if found is None or not issubclass(found, base):
                raise ValueError(f'{path} names {kind!r} where a {base.__name__} belongs; {fix}')
    return backbone, dict(told.get('pixels') or {})


def trained_side(path: str) -> int | None:
    """Side of the square images that a checkpoint was trained with, in pixels, if it tells."""
    sides = set(_meta(path).get('input_size') or ())
    return sides.pop() if len(sides) == 1 else None


def _meta(path: str) -> dict[str, Any]:
    return CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent').get('meta') or {}
