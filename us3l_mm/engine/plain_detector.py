"""The stock detector that one for all widths is at one of them."""

from collections.abc import Mapping

from mmengine.config import Config, ConfigDict
from torch import Tensor

from us3l_mm.models import SlimmableDetector
from us3l_mm.registry import MODELS
from us3l_mm.slim import trace_channels

from .set_data import find_dicts
from .set_width import set_width

_TRAINING_ONLY = ('detector', 'sampler', 'distill', 'group_reg', 'update', 'by_epoch', 'init_cfg')


def _build(model: ConfigDict, scope: str) -> SlimmableDetector:
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.build({**model, 'backbone': {**model.backbone, 'init_cfg': None}, 'init_cfg': None})


def _of_backbone(width: float | Mapping[str, float]) -> float | dict[str, float]:
    """Width of the backbone, or widths of its parts, where ``width`` may have parts of the detector."""
    if not isinstance(width, Mapping):
        return width
    parts = {name: value for name, value in width.items() if name.split('.')[0] == 'backbone'}
    if 'backbone' not in parts:
        return {name.removeprefix('backbone.'): value for name, value in parts.items()} or 1.0
    if len(parts) > 1:
        raise ValueError(f'name the backbone or parts of it, not both, got {sorted(parts)}')
    return parts['backbone']


def make_plain(cfg: Config, width: float | Mapping[str, float]) -> Config:
    """Turn the model of a config from a :class:`SlimmableDetector` into the stock one of one width.

    Args:
        cfg (Config): Config; changed in place. A neck that gets narrow must have ``out_channels``, the head behind
            it ``in_channels``.
        width (float | Mapping[str, float]): Width, or widths of parts such as ``backbone.layer1`` and ``neck``.

    Returns:
        Config: ``cfg``. :func:`plain_state` fits it, or loading that strictly fails.

    Raises:
        ValueError: If the detector cannot have this width.
    """
    model = cfg.model
    _, features = trace_channels(_build(model, cfg.default_scope).slimmable_part(), width)
    model.type = model.detector
    for name in _TRAINING_ONLY:
        model.pop(name, None)
    for part in find_dicts([part for name, part in model.items() if name != 'backbone']):
        if 'SlimmableConv2d' in str(part.get('conv_cfg')):
            part.conv_cfg = None
        if 'SlimmableBatchNorm2d' in str(part.get('norm_cfg')):
            part.norm_cfg = {**part.norm_cfg, 'type': 'BN'}
            part.norm_cfg.pop('sync', None)  # an option of ours
    if 'out_channels' in (model.get('neck') or {}):
        for part, key in ((model.neck, 'out_channels'), (model.get('bbox_head'), 'in_channels')):
            if part is not None and key in part:
                part[key] = features[0].size(1)
    return set_width(cfg, _of_backbone(width))


def plain_state(
    model: ConfigDict, scope: str, state: dict[str, Tensor], width: float | Mapping[str, float]
) -> dict[str, Tensor]:
    """Weights of the stock detector of one width.

    Args:
        model (ConfigDict): Config of the :class:`SlimmableDetector`.
        scope (str): Scope of types without one.
        state (dict[str, Tensor]): Its calibrated weights.
        width (float | Mapping[str, float]): As for :func:`make_plain`.

    Raises:
        RuntimeError: If the state is another model's, or has no statistics for the width.
    """
    detector = _build(model, scope)
    detector.load_state_dict(state, strict=True)
    return detector.dense(width).state_dict()
