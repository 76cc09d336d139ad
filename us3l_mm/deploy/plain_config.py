"""Make the config of a dense network from the network and the config of its slimmable model."""

from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS
from torch import nn

from us3l_mm.config import constructor_parameters, find_class, find_dicts, fit_width
from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d

_AS_GIVEN = ('backbone', 'data_preprocessor')


def plain_config(source: Config, plain: nn.Module) -> Config:
    """Make the config that builds a dense network.

    Arguments come from ``source``, except those that the class of the dense network does not take. Types, channels and
    the width come from the network.

    Args:
        source (Config): Config of the slimmable model.
        plain (nn.Module): Dense network that the method ``dense`` of that model returned.

    Returns:
        Config: ``default_scope`` and ``model``.
    """
    scope = source.get('default_scope') or 'mmpretrain'
    taken, given = constructor_parameters(type(plain)), dict(source.model.to_dict())
    defaults = constructor_parameters(find_class(source.model.type, scope))
    for name in taken.keys() & defaults.keys() - given.keys():
        if isinstance(defaults[name].default, dict) and getattr(plain, name, None) is not None:
            given[name] = defaults[name].default
    model = {name: value for name, value in given.items() if name in taken and name != 'init_cfg'}
    kind = given.get('detector', _name_of(plain))  # a detector is named as its user spells it
    cfg = Config(dict(default_scope=scope, model=dict(type=kind, **model)))
    _plain_layers([part for name, part in cfg.model.items() if name != 'backbone'], scope)
    for name, part in cfg.model.items():
        if isinstance(part, dict) and isinstance(getattr(plain, name, None), nn.Module) and name not in _AS_GIVEN:
            _copy_numbers(part, getattr(plain, name), scope)
    cfg.model.backbone.pop('init_cfg', None)  # the checkpoint has it all
    fit_width(cfg, plain.backbone.width, plain.backbone.out_channels)
    return cfg


def plain_evaluator(evaluator: Any) -> Any:
    """Replace the evaluator of several widths by mmpretrain's; changes a part of a config in place and returns it."""
    ours = METRICS.get('us3l_mm.WidthAccuracy')
    for part in find_dicts(evaluator):
        if part.get('type') is ours or (isinstance(part.get('type'), str) and METRICS.get(part.type) is ours):
            part.type = 'mmpretrain.Accuracy'
    return evaluator


def _name_of(module: nn.Module) -> str:
    """Return the registered name of the class of a module, with its scope."""
    return f'{type(module).__module__.split(".")[0]}.{type(module).__name__}'


def _plain_layers(parts: list[Any], scope: str) -> None:
    """Replace slimmable layers by torch's in parts of a config."""
    for part in find_dicts(parts):
        if issubclass(find_class((part.get('conv_cfg') or {}).get('type'), scope) or object, SlimmableConv2d):
            part.conv_cfg = None
        norm = part.get('norm_cfg') or {}
        if issubclass(find_class(norm.get('type'), scope) or object, SlimmableBatchNorm2d):
            part.norm_cfg = {**{key: value for key, value in norm.items() if key != 'sync'}, 'type': 'BN'}


def _copy_numbers(part: ConfigDict, module: nn.Module, scope: str) -> None:
    """Write the class and the channels of a module into its part of the config."""
    if find_class(part.type, scope) is not type(module):
        part.type = _name_of(module)
    for key in ('in_channels', 'out_channels'):
        if isinstance(getattr(module, key, None), int) and key in constructor_parameters(type(module)):
            part[key] = getattr(module, key)


def check_config(cfg: Config, plain: nn.Module) -> None:
    """Raise RuntimeError unless ``cfg.model`` builds a network whose tensors have the names and shapes of ``plain``."""
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        built = registry.build(cfg.model)
    shapes = [{name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} for net in (built, plain)]
    wrong = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
    if wrong:
        raise RuntimeError(
            f'cannot write a config of {type(plain).__name__} at width {plain.backbone.width}: {wrong[0]} is '
            f'{shapes[1].get(wrong[0])}, the config builds {shapes[0].get(wrong[0])}'
        )
