"""Narrow backbones as the stock classes of mmpretrain and mmdet, where their channels allow it."""

from collections.abc import Iterator
from importlib import import_module

import torch
from mmengine.config import Config
from torch import nn

from us3l_mm.config import constructor_parameters
from us3l_mm.registry import MODELS
from us3l_mm.slim import slim_channels

from .plain_model import PlainModel, outputs

_LIBRARIES = ('mmpretrain', 'mmdet')
_OURS = ('width', 'require_statistics', 'init_cfg', 'conv_cfg', 'norm_cfg', 'type')


def _stock_class(ours: type, framework: str | None, scope: str) -> tuple[type, type, str]:
    """Stock class that ``ours`` extends, the one to export to and the library of that one."""
    source = next(cls for cls in ours.__mro__ if not cls.__module__.startswith('us3l_mm'))
    for library in [framework] if framework else sorted(_LIBRARIES, key=lambda name: name != scope):
        target = getattr(import_module(f'{library}.models'), source.__name__, None)
        if target is not None:
            return source, target, library
    raise ValueError(f'{framework} has no backbone {source.__name__}; leave --framework out, or use --format dense')


def _arguments(backbone: dict, width: float, source: type, target: type, library: str) -> dict:
    """Config of the stock backbone with the channels of ``width``."""
    accepted, defaults = (
        constructor_parameters(target),
        {name: p.default for name, p in constructor_parameters(source).items()},
    )
    given = {name: value for name, value in backbone.items() if name not in _OURS}
    full = {**defaults, **given}
    rounding = (backbone.get('conv_cfg') or {}).get('rounding', 'divisible')
    if {'stem_channels', 'base_channels'} <= accepted.keys() & full.keys():
        for name in ('stem_channels', 'base_channels'):
            full[name] = given[name] = slim_channels(full[name], width, rounding=rounding)
    elif 'widen_factor' in accepted.keys() & full.keys():
        full['widen_factor'] = given['widen_factor'] = full['widen_factor'] * width
    elif width < 1.0:
        raise ValueError(f'{target.__name__} has no argument for its channels at width {width:g}; use --format dense')
    foreign = [name for name in given if name not in accepted and given[name] != defaults.get(name)]
    if foreign:
        raise ValueError(f'{library}.{target.__name__} does not take {foreign}; use --format dense')
    # Defaults of the two libraries differ, in out_indices and norm_eval for example: say what is meant.
    differing = {
        name: full[name]
        for name, parameter in accepted.items()
        if name in full and name not in _OURS and name not in given and full[name] != parameter.default
    }
    kept = {name: value for name, value in given.items() if name in accepted}
    return dict(type=f'{library}.{target.__name__}', **kept, **differing)


def _misfit(ours: nn.Module, theirs: dict) -> str | None:
    """First tensor of which the backbone that the config ``theirs`` builds has another shape, or None."""
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} for net in (ours, MODELS.build(theirs))
    ]
    names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    return f'{names[0]} is {shapes[0].get(names[0])} and would be {shapes[1].get(names[0])}' if names else None


def _nearest(backbone: dict, width: float, stock: tuple[type, type, str]) -> Iterator[float]:
    """Widths that fit, the nearest first."""
    base = backbone.get(
        'base_channels', getattr(constructor_parameters(stock[0]).get('base_channels'), 'default', None)
    )
    candidates = (
        {b / base for b in range(1, base + 1) if b % 8 == 0 or b == base} if base else {k / 20 for k in range(1, 21)}
    )
    for candidate in sorted(candidates, key=lambda other: abs(other - width)):
        ours = MODELS.build({**backbone, 'width': candidate})
        if _misfit(ours, _arguments(backbone, candidate, *stock)) is None:
            yield candidate


def stock_config(plain: PlainModel, framework: str | None = None) -> Config:
    """Config of the same network with a backbone of mmpretrain or mmdet.

    Args:
        plain (PlainModel): Network of one width; its weights don't matter.
        framework (str, optional): ``'mmpretrain'`` or ``'mmdet'``. Defaults to the ``default_scope`` of the
            config, where that has such a backbone.

    Raises:
        ValueError: If no argument of the stock class gives these channels (the message lists the nearest widths
            that do), or if the rest of the model needs us3l_mm.
    """
    backbone, width = plain.cfg.model.backbone.to_dict(), plain.width
    if not isinstance(width, float):
        raise ValueError(f'a stock backbone has one width for all its parts, got {width}; use --format dense')
    ours = type(plain.model.backbone)
    stock = _stock_class(ours, framework, plain.cfg.default_scope)
    theirs = _arguments(backbone, width, *stock)
    misfit = _misfit(plain.model.backbone, theirs)
    if misfit is not None:
        near = sorted(width for width, _ in zip(_nearest(backbone, width, stock), range(4)))
        raise ValueError(
            f'the channels of {ours.__name__} at width {width:g} fit no {stock[2]}.{stock[1].__name__}: {misfit}. '
            f'Nearest widths that fit: {", ".join(f"{width:g}" for width in near)}; --format dense takes every width'
        )
    cfg = Config(plain.cfg.to_dict())
    cfg.model.backbone = theirs
    if 'us3l_mm' in repr(cfg.model.to_dict()):
        raise ValueError(f'other parts of the model need us3l_mm, so it can be no stock model: {cfg.model.to_dict()}')
    tests = [key for key in cfg if key.startswith('test_')]
    if 'us3l_mm' in repr([cfg[key] for key in tests]):  # our data set, say: the model is a stock one all the same
        for key in tests:
            del cfg[key]
    return cfg


def stock_model(plain: PlainModel, cfg: Config) -> nn.Module:
    """The model that :func:`stock_config` describes, with the weights of ``plain``; runs without us3l_mm.

    Raises:
        ValueError: If it gives other features, by a single bit.
    """
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(cfg.model).eval()
    model.load_state_dict(plain.model.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(outputs(plain.model.backbone, images), outputs(model.backbone, images), strict=True):
        if not torch.equal(a, b):  # strides, say, which no shape of a weight tells
            raise ValueError(
                f'{type(plain.model.backbone).__name__} computes something else than {cfg.model.backbone.type} does; '
                'use --format dense'
            )
    return model
