"""Set the width of a whole config by one entry."""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from torch import nn

from us3l_mm.models import SlimmableBackboneMixin, SlimmableResLayer
from us3l_mm.registry import MODELS, find_class
from us3l_mm.slim import Width, check_width, width_label

_HEADS = ('head', 'rpn_head', 'bbox_head', 'mask_head', 'panoptic_head')


def _build(part: ConfigDict, scope: str | None, **changes) -> nn.Module:
    """Build a part of the model with random weights."""
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.build({**part, 'init_cfg': None, **changes})


def _parts(name: str, found: Any) -> list[tuple[str, ConfigDict]]:
    """List the parts of the model under one key, with the name of each: cascades and several necks are lists."""
    if isinstance(found, list):
        return [(f'{name}[{i}]', part) for i, part in enumerate(found)]
    return [(name, found)] if isinstance(found, dict) else []


def _followers(model: ConfigDict, channels: list[int], scope: str | None) -> list[tuple[str, ConfigDict, str, Any]]:
    """List the entries of the model that must follow the backbone.

    Args:
        model (ConfigDict): Model with a backbone of ours.
        channels (list[int]): Channels of each output of the backbone.
        scope (str, optional): Scope of types without one.

    Returns:
        list[tuple]: For each entry the name of the part, the part, the key and the value that it must have.

    Raises:
        ValueError: If there is a width, and the shared head is not ours.
    """

    def reads(name: str, part: ConfigDict, channels: list[int]) -> tuple[str, ConfigDict, str, Any]:
        given = part.in_channels
        if not isinstance(given, (list, tuple)):
            return name, part, 'in_channels', channels[-1]
        deepest_first = given[0] > given[-1] and channels[0] < channels[-1]  # as YOLOv3's neck reads
        return name, part, 'in_channels', channels[::-1] if deepest_first else channels

    for name, neck in _parts('neck', model.get('neck')):
        if 'in_channels' in neck:
            return [reads(name, neck, channels)]  # the heads read the neck, whose channels don't change
    heads = [part for key in _HEADS for part in _parts(key, model.get(key))]
    found = [reads(name, head, channels) for name, head in heads if 'in_channels' in head]
    roi_head, last = model.get('roi_head') or {}, channels[-1]
    for key in ('bbox_roi_extractor', 'mask_roi_extractor'):
        found += [(name, part, 'out_channels', last) for name, part in _parts(f'roi_head.{key}', roi_head.get(key))]
    for name, shared in _parts('roi_head.shared_head', roi_head.get('shared_head')):
        if not issubclass(find_class(shared.get('type'), scope) or object, SlimmableResLayer):
            if model.backbone.get('width') is None:
                return found  # a stock head reads the full net
            raise ValueError(f"model.{name}.type={shared.type!r} has no width: use 'us3l_mm.SlimmableResLayer'")
        found.append((name, shared, 'width', model.backbone.width))
        last = _build(shared, scope, width=model.backbone.width).out_channels
    for key in ('bbox_head', 'mask_head'):
        parts = _parts(f'roi_head.{key}', roi_head.get(key))
        found += [reads(name, head, [last]) for name, head in parts if 'in_channels' in head]
    return found


def set_width(cfg: Config, width: Width | None = None) -> Config:
    """Set the width of the backbone, and the channels of the parts that read it.

    The width goes to ``model.backbone.width``. The ``out_channels`` of the backbone at that width go to the first neck
    with ``in_channels``: all of them if it takes a list, in the order of that list, the last one if it takes a number.
    Without such a neck they go to the heads:

    - ``in_channels`` of ``model.head``, ``rpn_head``, ``bbox_head``, ``mask_head`` and ``panoptic_head``;
    - in ``model.roi_head``, ``out_channels`` of the extractors, the width of ``shared_head``, and ``in_channels`` of
      the heads that read it.

    A shared head without ``init_cfg`` gets that of the backbone. Without a width these numbers are only checked.

    Args:
        cfg (Config): Config of an mmdet or mmpretrain model; changed in place.
        width (Width, optional): Width in (0, 1], or widths of parts of the backbone; see
            :func:`us3l_mm.slim.use_width`. Defaults to the top-level ``width`` of the config.

    Returns:
        Config: ``cfg``.

    Raises:
        TypeError: If the width is not a number.
        ValueError: If the width is outside (0, 1], or widths of parts don't fit together. If there is a width, but
            the backbone is not ours, or neck and heads have no ``in_channels``. If the shared head is not ours. If
            there is no width, and the numbers in the config don't match the backbone.
    """
    fit_width(cfg, width)
    return cfg


def fit_width(
    cfg: Config, width: Width | None = None, out_channels: Sequence[int] | None = None
) -> SlimmableBackboneMixin | None:
    """Do the work of :func:`set_width`, and return the backbone that it builds to read its channels.

    Args:
        cfg (Config): See :func:`set_width`.
        width (Width, optional): See :func:`set_width`.
        out_channels (Sequence[int], optional): Channels of the outputs of the backbone at that width. Defaults to
            None: the backbone is built to read them.

    Returns:
        SlimmableBackboneMixin | None: The backbone, or None if none was built.
    """
    width = cfg.get('width') if width is None else width
    width = None if width is None else check_width(width)
    model, scope = cfg.get('model', {}), cfg.get('default_scope')
    if not _has_our_backbone(model, scope, width):
        return None
    backbone = model.backbone
    if width is not None:
        backbone.width = width
        if 'width' in cfg:
            cfg.width = width
    built = _build(backbone, scope) if out_channels is None else None
    channels = list(built.out_channels if out_channels is None else out_channels)
    followers = _followers(model, channels, scope)
    if width is not None and not followers:
        raise ValueError(
            f'cannot set width={width_label(width)}: neither model.neck nor model.head has in_channels; '
            'set model.backbone.width and the channels that depend on it in the config'
        )
    for name, part, key, needed in followers:
        if width is not None:
            part[key] = needed
        else:
            _check_follower(name, part, key, needed, backbone, channels)
        if key == 'width':
            part.setdefault('init_cfg', copy.deepcopy(backbone.get('init_cfg')))
    return built


def _has_our_backbone(model: ConfigDict, scope: str | None, width: Width | None) -> bool:
    """Whether the backbone of a model is ours; if not, a width raises ValueError."""
    backbone = model.get('backbone')
    if backbone is not None and issubclass(find_class(backbone.get('type'), scope) or object, SlimmableBackboneMixin):
        return True
    if width is None:
        return False
    got = 'a model without backbone' if backbone is None else f'model.backbone.type={backbone.type!r}'
    raise ValueError(
        f"width={width_label(width)} needs a slimmable backbone such as 'us3l_mm.SlimmableResNet', got {got}; "
        'change the type, or drop the width'
    )


def _check_follower(
    name: str, part: ConfigDict, key: str, needed: Any, backbone: ConfigDict, channels: list[int]
) -> None:
    """Raise ValueError if an entry that must follow the backbone has another value."""
    got = part.get(key)
    if (list(got) if isinstance(got, tuple) else got) != needed:
        raise ValueError(
            f'model.{name}.{key}={got} does not match {backbone.type} at width={backbone.get("width")}, which gives '
            f'out_channels={channels}; give --width, or set model.{name}.{key}={needed}'
        )
