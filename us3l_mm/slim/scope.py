"""Switch the width of a network in a scope, and trace the channels it then has."""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .layers import SlimmableLayer
from .shared_slices import SharedSlices
from .width import Width, check_width, width_key, width_label

_RIGID_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.GroupNorm)


def _is_rigid(layer: nn.Module, after_linear: bool) -> bool:
    """Whether a layer that is not slimmable needs its full number of feature-map channels."""
    if isinstance(layer, _RIGID_NORMS) or type(layer).__name__ == 'LayerNorm2d':  # mmpretrain's, torchvision's
        return not after_linear  # in a projector, for example, whose linear layers keep all outputs
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters > 1
    # A convolution owns a kernel, also one that is no subclass of torch's.
    return any(parameter.dim() >= 4 for parameter in layer.parameters(recurse=False))


def _find_layers(module: nn.Module) -> tuple[dict[str, SlimmableLayer], list[str]]:
    """Find the slimmable layers, by name, and the rigid layers defined after the first of them.

    Layers in front of it, such as a ViT's patch embedding, see all channels. Submodules of slimmable layers are
    not looked at.
    """
    slimmable, rigid = {}, []
    inside, after_linear = None, False
    for name, layer in module.named_modules():
        if isinstance(layer, SlimmableLayer):
            slimmable[name] = layer
            inside = f'{name}.' if name else ''
        elif inside is not None and not name.startswith(inside) and _is_rigid(layer, after_linear):
            rigid.append(f'{name} ({type(layer).__name__})')
        if isinstance(layer, (nn.Linear, _ConvNd)):
            after_linear = isinstance(layer, nn.Linear)
    return slimmable, rigid


def _widths_of_layers(module: nn.Module, names: Sequence[str], parts: Mapping[str, float]) -> list[float]:
    """Width of each layer: that of the innermost part it belongs to, or 1.0."""
    owners = [
        max((part for part in parts if f'{name}.'.startswith(f'{part}.')), key=len, default=None) for name in names
    ]
    empty = [part for part in parts if not any(f'{name}.'.startswith(f'{part}.') for name in names)]
    if empty:
        have = list(dict.fromkeys(name.split('.')[0] for name in names))
        raise ValueError(f'{type(module).__name__} has no slimmable layer in {empty}; its parts: {have}')
    return [1.0 if owner is None else parts[owner] for owner in owners]


@contextmanager
def switch_layers(
    layers: Sequence[SlimmableLayer], widths: Sequence[float], key: str | None = None, share: bool = False
) -> Iterator[None]:
    """:func:`use_width` without its checks, for layers that were found and checked before.

    Args:
        layers (Sequence[SlimmableLayer]): Layers to switch.
        widths (Sequence[float]): Width of each.
        key (str, optional): Key of the width of the whole network. Defaults to that of the first layer.
        share (bool): Whether all forward passes in the block share one copy of each sliced weight, which is
            faster if there are several. Weights must not change in the block.
    """
    key = width_key(widths[0] if widths else 1.0) if key is None else key
    before = [(layer.width, layer.statistics_key, layer.shared) for layer in layers]
    shared = SharedSlices() if share else None
    try:
        for layer, width in zip(layers, widths):
            layer.width, layer.statistics_key = width, key
            layer.shared = shared or layer.shared
        yield
    finally:
        for layer, old in zip(layers, before):
            layer.width, layer.statistics_key, layer.shared = old


@contextmanager
def switch_width(module: nn.Module, width: Width) -> Iterator[None]:
    """:func:`use_width` without the check that the widths of parts fit together."""
    named, rigid = _find_layers(module)
    if not named:
        raise ValueError(
            f'{type(module).__name__} has no slimmable layer, so its width cannot change; build it without '
            "`width`, with conv_cfg=dict(type='us3l_mm.SlimmableConv2d') and the norm_cfg to match"
        )
    widths = _widths_of_layers(module, list(named), width) if isinstance(width, Mapping) else [width] * len(named)
    if rigid and min(widths) < 1.0:
        raise ValueError(
            f'{type(module).__name__} cannot run at width {min(widths):.6g}: {len(rigid)} of its layers take their '
            f'full number of channels only: {", ".join(rigid[:3])}{", ..." if len(rigid) > 3 else ""}. Build them with '
            "conv_cfg=dict(type='us3l_mm.SlimmableConv2d'), norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d')"
        )
    key = width_key(width if len(set(widths)) > 1 else widths[0])
    with switch_layers(list(named.values()), widths, key):
        yield


@contextmanager
def use_width(module: nn.Module, width: Width) -> Iterator[nn.Module]:
    """Run the slimmable layers of ``module`` at ``width`` inside a ``with`` block.

    The block restores the previous widths, also when it raises. Other modules keep theirs: a teacher stays at
    1.0 because it is another module.

    Args:
        module (nn.Module): Network with slimmable layers.
        width (Width): Width multiplier in (0, 1], or one for each of some parts, such as ``{'layer1': 0.5,
            'layer4': 0.8, 'layer4.0.conv1': 0.3}``: the innermost part counts, and layers in none are full. Batch
            norm then needs statistics of exactly these widths.

    Yields:
        nn.Module: ``module`` itself.

    Raises:
        TypeError: If ``width`` is not a number.
        ValueError: If ``width`` is outside (0, 1], ``module`` or a part has no slimmable layer, a layer that is not
            slimmable would get fewer channels, or widths don't fit together, as in a residual sum of two.
    """
    width = check_width(width)
    if isinstance(width, Mapping):
        trace_channels(module, width)
    with switch_width(module, width):
        yield module


def _example_input(module: nn.Module) -> Tensor:
    """Two images with the channels of the first convolution, 64 x 64 pixels or the network's ``img_size``."""
    layers = (layer for layer in module.modules() if isinstance(layer, (SlimmableLayer, nn.Conv2d)))
    first = next(layers, None)
    if not isinstance(first, nn.Conv2d):
        raise ValueError(
            f'cannot guess an input for {type(module).__name__}, which does not start with a convolution; '
            'pass example_input'
        )
    size: Any = next((part.img_size for part in module.modules() if hasattr(part, 'img_size')), 64)
    size = size if isinstance(size, Sequence) else (size, size)
    return torch.empty(2, first.in_channels, *size, dtype=first.weight.dtype)  # batch norm refuses a single value


def meta_copy(module: nn.Module) -> nn.Module:
    """Copy a module onto the meta device, where it takes no memory and does no arithmetic."""
    memo: dict[int, Tensor] = {id(b): torch.empty_like(b, device='meta') for b in module.buffers()}
    for p in module.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device='meta'), p.requires_grad)
    return copy.deepcopy(module, memo)


@torch.no_grad()
def trace_channels(module: nn.Module, width: Width, example_input: Tensor | None = None) -> tuple[dict[str, int], Any]:
    """Trace how many input channels each slimmable layer gets at ``width``.

    Only a forward pass can tell. It runs on the meta device: no arithmetic is done and ``module`` does not change.

    Args:
        module (nn.Module): Slimmable network.
        width (Width): Width multiplier, or those of parts; see :func:`use_width`.
        example_input (Tensor, optional): Input to run. Defaults to an image of 64 x 64 pixels.

    Returns:
        tuple[dict[str, int], Any]: Input channels by layer name, and what the network returned (meta tensors).

    Raises:
        ValueError: If the network cannot run at that width, or a layer gets no input or inputs of different sizes.
    """
    width = check_width(width)
    example_input = (_example_input(module) if example_input is None else example_input).to('meta')
    seen: dict[str, set[int]] = defaultdict(set)
    ghost = meta_copy(module)
    layers = {name: layer for name, layer in ghost.named_modules() if isinstance(layer, SlimmableLayer)}

    def record(name: str, axis: int):
        return lambda _, inputs: seen[name].add(inputs[0].size(axis))

    for part in ghost.modules():
        part.training = True  # evaluation would ask for statistics
    for name, layer in layers.items():
        layer.register_forward_pre_hook(record(name, layer.channel_axis))
    with switch_width(ghost, width):
        try:
            output = ghost(example_input)
        except Exception as error:  # whatever a stock network raises where it expects its full channels
            raise _cannot_run(module, width, example_input, error) from error
    unclear = {name: sorted(seen[name]) for name in layers if len(seen[name]) != 1}
    if unclear:
        raise ValueError(
            f'cannot tell the input channels of these layers at width {width_label(width)} '
            f'(none: not reached by the example input; several: run with different ones): {unclear}'
        )
    return {name: seen[name].pop() for name in layers}, output


def _cannot_run(module: nn.Module, width: Width, example_input: Tensor, error: Exception) -> ValueError:
    """Error that names the network, the width and the usual fix."""
    parts = isinstance(width, Mapping)
    hint = 'outputs that are added, as in a residual sum, need one width' if parts else 'see docs/backbones.md'
    return ValueError(
        f'{type(module).__name__} cannot run at width {width_label(width)} on an input of '
        f'{tuple(example_input.shape)}: {error}; {hint}'
    )
