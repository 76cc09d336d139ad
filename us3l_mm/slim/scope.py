"""Width as a scope."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .channels import check_width
from .layers import SlimmableLayer


@contextmanager
def use_width(module: nn.Module, width: float) -> Iterator[nn.Module]:
    """Run the slimmable layers of ``module`` at ``width`` inside a ``with`` block.

    Widths from before the block come back after it, also when it raises. Other modules keep theirs: a
    teacher stays at 1.0 because it is another module.

    Args:
        module (nn.Module): Network with slimmable layers.
        width (float): Width multiplier, in (0, 1].

    Yields:
        nn.Module: ``module`` itself.

    Raises:
        TypeError: If ``width`` is not a number.
        ValueError: If ``width`` is outside (0, 1], or ``module`` has no slimmable layer.
    """
    width = check_width(width)
    layers = [layer for layer in module.modules() if isinstance(layer, SlimmableLayer)]
    if not layers:
        raise ValueError(
            f'{type(module).__name__} has no slimmable layer, so its width cannot change; build it with '
            "conv_cfg=dict(type='us3l_mm.SlimmableConv2d'), norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d') "
            'and without a fixed `width`'
        )
    before = [layer.width for layer in layers]
    try:
        for layer in layers:
            layer.width = width
        yield module
    finally:
        for layer, old in zip(layers, before):
            layer.width = old
