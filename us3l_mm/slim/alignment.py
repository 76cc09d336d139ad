"""Check that a narrow network is the first channels of the full one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .layers import SlimmableLayer
from .scope import use_width


def output_tensors(output: Any) -> list[Tensor]:
    """Flatten a nested output into a list of tensors."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output
    return [tensor for part in parts for tensor in output_tensors(part)]


def outputs_close(got: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether outputs agree up to rounding in float64."""
    return len(got) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-7, atol=1e-7 * b.abs().max().item())
        for a, b in zip(got, expected)
    )


@torch.no_grad()
def is_aligned(net: nn.Module, x: Tensor, width: float) -> bool:
    """Whether the narrow net equals the full net with the inactive outputs of every layer set to zero.

    A net that concatenates or shuffles channels does not: at another width, other channels meet the same weights.

    Args:
        net (nn.Module): Slimmable network in float64, without randomness such as active dropout.
        x (Tensor): Input.
        width (float): Width multiplier, below 1.
    """
    active: dict[nn.Module, int] = {}
    layers = [layer for layer in net.modules() if isinstance(layer, SlimmableLayer)]

    def note(layer: nn.Module, _: Any, output: Tensor) -> None:
        active[layer] = output.size(1)

    def mask(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, : active[layer]], torch.zeros_like(output[:, active[layer] :])], 1)

    def run(hook: Callable) -> list[Tensor]:
        handles = [layer.register_forward_hook(hook) for layer in layers]
        try:
            return output_tensors(net(x))
        finally:
            for handle in handles:
                handle.remove()

    with use_width(net, width):
        narrow = run(note)
    masked = run(mask)
    return outputs_close(narrow, [whole[:, : part.size(1)] for part, whole in zip(narrow, masked)])
