"""Turn a dense backbone into the stock class of mmpretrain or mmdet that has the same channels."""

from collections.abc import Iterator
from importlib import import_module

import torch
from mmengine.config import Config
from torch import nn

from us3l_mm.config import constructor_parameters, find_datasets, find_dicts, names_scope
from us3l_mm.registry import MODELS
from us3l_mm.slim import slim_channels

from .plain_model import PlainModel, outputs

_LIBRARIES = ('mmpretrain', 'mmdet')
_OURS = ('width', 'require_statistics', 'init_cfg', 'conv_cfg', 'norm_cfg', 'type')


def _stock_class(ours: type, framework: str | None, scope: str) -> tuple[type, type, str]:
    """Find the stock class of a slimmable backbone.

    Returns:
        tuple[type, type, str]: The stock class that ``ours`` extends; the class to export to, of the same name in
        ``framework`` or by default in the library ``scope``; the library of the latter.
    """
    source = next(cls for cls in ours.__mro__ if not cls.__module__.startswith('us3l_mm'))
    for library in [framework] if framework else sorted(_LIBRARIES, key=lambda name: name != scope):
        target = getattr(import_module(f'{library}.models'), source.__name__, None)
        if target is not None:
            return source, target, library
    raise ValueError(f'{framework} has no backbone {source.__name__}; leave --framework out, or use --format dense')


def _arguments(backbone: dict, width: float, source: type, target: type, library: str) -> dict:
    """Make the config of the stock backbone ``target`` with the channels of ``width``."""
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
        raise ValueError(f'{target.__name__} has no argument for the channels of width {width:g}; use --format dense')
    foreign = [name for name in given if name not in accepted and given[name] != defaults.get(name)]
    if foreign:
        raise ValueError(f'{library}.{target.__name__} does not take {foreign}; use --format dense')
    # The defaults of mmpretrain and mmdet differ, for example of out_indices and norm_eval: write down what is meant.
    differing = {
        name: full[name]
        for name, parameter in accepted.items()
        if name in full and name not in _OURS and name not in given and full[name] != parameter.default
    }
    kept = {name: value for name, value in given.items() if name in accepted}
    return dict(type=f'{library}.{target.__name__}', **kept, **differing)


def _misfit(ours: nn.Module, theirs: dict) -> str | None:
    """Name the first tensor whose shape differs in the backbone that the config ``theirs`` builds, or None."""
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} for net in (ours, MODELS.build(theirs))
    ]
    names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    return f'{names[0]} is {shapes[0].get(names[0])}, there {shapes[1].get(names[0])}' if names else None


def _nearest(backbone: dict, width: float, stock: tuple[type, type, str]) -> Iterator[float]:
    """Yield the widths that a stock backbone can have, the nearest to ``width`` first."""
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
    """Make the config of a dense network with its backbone replaced by the stock one.

    Args:
        plain (PlainModel): Network of one width; its weights don't matter.
        framework (str, optional): Library of the backbone, ``'mmpretrain'`` or ``'mmdet'``. Defaults to the
            ``default_scope`` of the config if that has such a backbone.

    Raises:
        ValueError: If no argument of the stock class gives these channels (the message lists the nearest widths
            that fit), or if the rest of the model needs us3l_mm.
    """
    backbone, width = plain.cfg.model.backbone.to_dict(), plain.width
    if not isinstance(width, float):
        raise ValueError(f'a stock backbone needs one width for all its parts, got {width}; use --format dense')
    ours = type(plain.model.backbone)
    stock = _stock_class(ours, framework, plain.cfg.default_scope)
    theirs = _arguments(backbone, width, *stock)
    misfit = _misfit(plain.model.backbone, theirs)
    if misfit is not None:
        near = sorted(width for width, _ in zip(_nearest(backbone, width, stock), range(4)))
        raise ValueError(
            f'{stock[2]}.{stock[1].__name__} cannot have the channels of width {width:g}: {misfit}. '
            f'Nearest widths that fit: {", ".join(f"{width:g}" for width in near)}; --format dense takes every width'
        )
    cfg = Config(plain.cfg.to_dict())
    cfg.model.backbone = theirs
    if names_scope(cfg.model, 'us3l_mm'):
        parts = [name for name, part in cfg.model.items() if names_scope(part, 'us3l_mm')] or [cfg.model.type]
        raise ValueError(f'a stock model cannot have types of us3l_mm, got {parts}; use --format dense')
    for part in find_dicts(cfg.get('test_dataloader')):
        if part.get('_scope_') == 'us3l_mm':  # our loading of images; without it, the name is that of the stock one
            del part['_scope_']
    tests = [key for key in cfg if key.startswith('test_')]
    if names_scope([cfg[key] for key in tests], 'us3l_mm'):  # for example our data set; the model needs none of it
        pipelines = [part.pipeline for _, part in find_datasets(cfg, ['test_dataloader'])]
        for key in tests:
            cfg.pop(key)
        if pipelines and not names_scope(pipelines[0], 'us3l_mm'):
            cfg.test_dataloader = _pipeline_alone(cfg.default_scope, pipelines[0])
    return cfg


def _pipeline_alone(scope: str, pipeline: list) -> dict:
    """Data loader of nothing, in which the inferencers of mmdet and mmpretrain find their transforms."""
    empty = {'mmdet': dict(type='BaseDetDataset'), 'mmpretrain': dict(type='CustomDataset', with_label=False)}
    return dict(dataset=dict(empty[scope], pipeline=pipeline))


def stock_model(plain: PlainModel, cfg: Config) -> nn.Module:
    """Build the stock model with the weights of a dense one; it runs without us3l_mm.

    Args:
        plain (PlainModel): Dense network of one width.
        cfg (Config): What :func:`stock_config` returned for it.

    Raises:
        ValueError: If the features of the two backbones are not bit-equal.
    """
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(cfg.model).eval()
    model.load_state_dict(plain.model.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(outputs(plain.model.backbone, images), outputs(model.backbone, images), strict=True):
        if not torch.equal(a, b):  # for example other strides, which no shape of a weight shows
            raise ValueError(
                f'{type(plain.model.backbone).__name__} computes something else than {cfg.model.backbone.type}; '
                'use --format dense'
            )
    return model
