"""Take the arguments of stock backbones as they stand in configs: plain layers, and names that only mmdet has."""

import inspect
from typing import Any

from mmcv.cnn import Conv2d  # 'Conv', a subclass of torch's
from mmengine.logging import print_log
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm  # 'SyncBN', a subclass of torch's
from torch import nn

from us3l_mm.registry import find_class
from us3l_mm.slim import SlimmableLayer

_PLAIN = {'conv_cfg': (nn.Conv2d, Conv2d), 'norm_cfg': (nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm)}
_REFUSED = {
    'dcn': 'deformable convolutions have no slimmable form: their offsets and weights take all channels',
    'plugins': 'plugins are blocks of their own, which take all channels of their stage',
}


def slimmable_layer(name: str, given: dict | None, default: dict) -> dict:
    """Config of the slimmable layers of a backbone.

    Args:
        name (str): Argument, ``'conv_cfg'`` or ``'norm_cfg'``.
        given (dict, optional): Its value in the config. Plain layers, ``'Conv'``, ``'BN'`` or ``'SyncBN'`` for
            example, become slimmable ones with the same options.
        default (dict): Slimmable layer to use, with the options that hold if nothing is given.

    Raises:
        ValueError: If there are no such layers, or they can be neither sliced nor replaced.
    """
    if not given:
        return dict(default)
    kind = find_class(given.get('type'), None)
    if kind is None:
        raise ValueError(f'{name}={dict(given)} names no registered layer; check the spelling of its type')
    if issubclass(kind, SlimmableLayer):
        return given
    if kind not in _PLAIN[name]:
        raise ValueError(
            f'{name}={dict(given)} cannot follow a width: {kind.__name__} takes its full number of channels. Leave '
            f'{name} out, or name a slimmable layer such as {default["type"]!r} there'
        )
    layer = {**given, 'type': default['type']}
    if issubclass(kind, nn.SyncBatchNorm):
        layer['sync'] = True
    print_log(f'{name}={dict(given)} is built as {layer}, which is the same at width 1.0', 'current')
    return layer


def translate_mmdet(backbone: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Translate arguments that mmdet's backbones have and the stock class of ``backbone`` lacks.

    ``pretrained`` becomes ``init_cfg``. ``dcn``, ``stage_with_dcn`` and ``plugins`` are dropped where they ask for
    nothing.

    Raises:
        ValueError: If ``dcn`` or ``plugins`` ask for something, or ``pretrained`` stands beside ``init_cfg``.
    """
    constructors = [vars(base)['__init__'] for base in backbone.__mro__ if '__init__' in vars(base)]
    known = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    rest = {name: value for name, value in arguments.items() if name in known}
    ours = {name: value for name, value in arguments.items() if name not in known}
    for name, reason in _REFUSED.items():
        if ours.pop(name, None):
            raise ValueError(
                f'{backbone.__name__} has no {name}: {reason}. Leave {name} out, or use the stock backbone of mmdet'
            )
    ours.pop('stage_with_dcn', None)  # without dcn it says nothing
    pretrained = ours.pop('pretrained', None)
    if pretrained is not None:
        if rest.get('init_cfg') is not None:
            raise ValueError(f'pretrained={pretrained!r} and init_cfg cannot both be given; leave pretrained out')
        rest['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained)
    return {**rest, **ours}  # others are an error of the stock class, which names them
