"""From a slimmable network to the plain narrow network it is at one width."""

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from .batchnorm import SlimmableBatchNorm2d
from .layers import SlimmableConv2d, SlimmableLayer, SlimmableLinear
from .scope import use_width


def _example_input(module: nn.Module) -> Tensor:
    """A 64 x 64 image with the channels of the first convolution."""
    first = next((layer for layer in module.modules() if isinstance(layer, SlimmableLayer)), None)
    if not isinstance(first, SlimmableConv2d):
        raise ValueError(
            f'cannot guess an input for {type(module).__name__}, which does not start with a slimmable '
            'convolution; pass example_input'
        )
    return torch.empty(1, first.in_channels, 64, 64)


@torch.no_grad()
def trace_channels(module: nn.Module, width: float, example_input: Tensor | None = None) -> tuple[dict[str, int], Any]:
    """Input channels that each slimmable layer sees at ``width``.

    Layers read their input width off their input, so only a run tells it. It is made on the meta device:
    no arithmetic is done and nothing in ``module`` changes.

    Args:
        module (nn.Module): Slimmable network.
        width (float): Width multiplier, in (0, 1].
        example_input (Tensor, optional): Input to run. Defaults to an image of 64 x 64 pixels.

    Returns:
        tuple[dict[str, int], Any]: Input channels by layer name, and what the network returned (meta tensors).

    Raises:
        ValueError: If a layer is not reached, or is run with different numbers of channels.
    """
    example_input = (_example_input(module) if example_input is None else example_input).to('meta')
    seen: dict[str, set[int]] = defaultdict(set)
    # A copy that holds meta tensors in place of those of the module, so that it takes no memory.
    memo: dict[int, Tensor] = {id(b): torch.empty_like(b, device='meta') for b in module.buffers()}
    memo.update({id(p): nn.Parameter(torch.empty_like(p, device='meta'), False) for p in module.parameters()})
    ghost = copy.deepcopy(module, memo)
    layers = {name: layer for name, layer in ghost.named_modules() if isinstance(layer, SlimmableLayer)}

    def record(name: str, axis: int):
        return lambda _, inputs: seen[name].add(inputs[0].size(axis))

    for layer in ghost.modules():
        layer.training = True  # evaluation would ask for statistics
    for name, layer in layers.items():
        layer.register_forward_pre_hook(record(name, -1 if isinstance(layer, SlimmableLinear) else 1))
    with use_width(ghost, width):
        output = ghost(example_input)
    unclear = {name: sorted(seen[name]) for name in layers if len(seen[name]) != 1}
    if unclear:
        raise ValueError(
            f'cannot tell the input channels of these layers at width {width} '
            f'(none: not reached by the example input; several: run with different ones): {unclear}'
        )
    return {name: seen[name].pop() for name in layers}, output


def _like(plain: nn.Module, layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """Give ``plain`` the tensors and the training state of ``layer``."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
        if name in layer._parameters:
            setattr(plain, name, nn.Parameter(tensor, requires_grad=getattr(layer, name).requires_grad))
        else:
            plain.register_buffer(name, tensor)
    return plain.train(layer.training)


def _dense_layer(layer: SlimmableLayer, in_channels: int, with_statistics: bool) -> nn.Module:
    if isinstance(layer, SlimmableConv2d):
        out_channels, groups = layer.active_channels(in_channels)
        plain = nn.Conv2d(
            in_channels,
            out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            groups,
            layer.bias is not None,
            layer.padding_mode,
            device='meta',
        )
        bias = None if layer.bias is None else layer.bias[:out_channels]
        return _like(plain, layer, weight=layer.weight[:out_channels, : in_channels // groups], bias=bias)
    if isinstance(layer, SlimmableLinear):
        plain = nn.Linear(in_channels, layer.out_features, layer.bias is not None, device='meta')
        return _like(plain, layer, weight=layer.weight[:, :in_channels], bias=layer.bias)
    if isinstance(layer, SlimmableBatchNorm2d):
        plain = nn.BatchNorm2d(in_channels, layer.eps, layer.momentum, layer.affine, device='meta')
        if with_statistics:
            mean, var = layer.statistics(layer.width)
        else:
            mean, var = layer.running_mean.new_zeros(in_channels), layer.running_var.new_ones(in_channels)
        affine = {} if not layer.affine else {'weight': layer.weight[:in_channels], 'bias': layer.bias[:in_channels]}
        tracked = layer.num_batches_tracked
        return _like(plain, layer, running_mean=mean, running_var=var, num_batches_tracked=tracked, **affine)
    raise TypeError(f'no plain counterpart known for {type(layer).__name__}; add it to us3l_mm/slim/dense.py')


def to_dense(
    module: nn.Module,
    width: float,
    example_input: Tensor | None = None,
    with_statistics: bool = True,
) -> nn.Module:
    """Copy of ``module`` in which every slimmable layer is the plain layer it is at ``width``.

    Args:
        module (nn.Module): Slimmable network.
        width (float): Width multiplier, in (0, 1].
        example_input (Tensor, optional): See :func:`trace_channels`.
        with_statistics (bool): Whether batch norms take the calibrated statistics of that width. False
            leaves them at their initial zeros and ones.

    Returns:
        nn.Module: Network without slimmable layers, of its own memory; gives the same outputs.

    Raises:
        RuntimeError: If ``with_statistics`` and the width is not calibrated.
        ValueError: If the input channels of a layer cannot be told, see :func:`trace_channels`.
    """
    channels, _ = trace_channels(module, width, example_input)
    with use_width(module, width):
        plain = {
            name: _dense_layer(module.get_submodule(name), in_channels, with_statistics)
            for name, in_channels in channels.items()
        }
    if '' in plain:
        return plain['']
    # Layers already converted are not copied: the memo hands them out in place of the slimmable ones.
    memo = {id(module.get_submodule(name)): layer for name, layer in plain.items()}
    return copy.deepcopy(module, memo)
