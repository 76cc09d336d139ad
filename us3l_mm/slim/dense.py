"""From a slimmable network to the plain narrow network it is at one width."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import SlimmableLayer
from .scope import use_width


def _example_input(module: nn.Module) -> Tensor:
    """An image with the channels of the first convolution, of 64 x 64 pixels or the network's ``img_size``."""
    layers = (layer for layer in module.modules() if isinstance(layer, (SlimmableLayer, nn.Conv2d)))
    first = next(layers, None)
    if not isinstance(first, nn.Conv2d):
        raise ValueError(
            f'cannot guess an input for {type(module).__name__}, which does not start with a convolution; '
            'pass example_input'
        )
    size = next((part.img_size for part in module.modules() if hasattr(part, 'img_size')), 64)
    size = size if isinstance(size, Sequence) else (size, size)
    return torch.empty(2, first.in_channels, *size, dtype=first.weight.dtype)  # two: batch norm refuses one value


def meta_copy(module: nn.Module) -> nn.Module:
    """Copy that holds meta tensors in place of those of the module: it takes no memory and does no arithmetic."""
    memo: dict[int, Tensor] = {id(b): torch.empty_like(b, device='meta') for b in module.buffers()}
    for p in module.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device='meta'), p.requires_grad)
    return copy.deepcopy(module, memo)


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
        ValueError: If the network cannot run at that width, or a layer is not reached or is run with different
            numbers of channels.
    """
    example_input = (_example_input(module) if example_input is None else example_input).to('meta')
    seen: dict[str, set[int]] = defaultdict(set)
    ghost = meta_copy(module)
    layers = {name: layer for name, layer in ghost.named_modules() if isinstance(layer, SlimmableLayer)}

    def record(name: str, axis: int):
        return lambda _, inputs: seen[name].add(inputs[0].size(axis))

    for layer in ghost.modules():
        layer.training = True  # evaluation would ask for statistics
    for name, layer in layers.items():
        layer.register_forward_pre_hook(record(name, layer.channel_axis))
    with use_width(ghost, width):
        try:
            output = ghost(example_input)
        except Exception as error:  # whatever a stock network raises where it expects its full channels
            raise ValueError(
                f'{type(module).__name__} cannot run at width {width:.6g} on an input of {tuple(example_input.shape)}: '
                f'{error}; see docs/backbones.md for networks that cannot be slimmed'
            ) from error
    unclear = {name: sorted(seen[name]) for name in layers if len(seen[name]) != 1}
    if unclear:
        raise ValueError(
            f'cannot tell the input channels of these layers at width {width} '
            f'(none: not reached by the example input; several: run with different ones): {unclear}'
        )
    return {name: seen[name].pop() for name in layers}, output


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
            name: module.get_submodule(name).dense(in_channels, with_statistics)
            for name, in_channels in channels.items()
        }
    if '' in plain:
        return plain['']
    # Layers already converted are not copied: the memo hands them out in place of the slimmable ones.
    memo = {id(module.get_submodule(name)): layer for name, layer in plain.items()}
    return copy.deepcopy(module, memo)
