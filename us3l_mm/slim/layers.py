"""Layers that run with the first channels of their weights.

Shapes: N images, C channels, H x W pixels. A layer reads its input channels off its input, so that only
the number of outputs depends on the width, and a backbone needs no code to be slimmable.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .channels import slim_channels


class SlimmableLayer:
    """Mark of a layer that :func:`us3l_mm.slim.use_width` switches.

    Attributes:
        width (float): Width multiplier now in force.
    """

    width: float = 1.0


def _check_input(layer: nn.Module, got: int, most: int) -> None:
    if got > most:
        raise ValueError(f'{type(layer).__name__} has {most} input channels, got an input of {got}')


class SlimmableConv2d(SlimmableLayer, nn.Conv2d):
    """:class:`torch.nn.Conv2d` whose outputs are a prefix chosen by the width.

    Dense convolutions use ``weight[:c(width), :C_in]``; depthwise ones (groups = in = out channels) have
    as many outputs and groups as their input has channels.

    Args:
        ratio (int): See :func:`slim_channels`.
        slim_out (bool): Whether the width slices the outputs. False: inputs only.
        *args: As for :class:`torch.nn.Conv2d`.
        **kwargs: As for :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: If the convolution is grouped but not depthwise.
    """

    def __init__(self, *args, ratio: int = 1, slim_out: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.groups != 1 and not self.groups == self.in_channels == self.out_channels:
            raise ValueError(
                'SlimmableConv2d takes dense (groups=1) or depthwise (groups=in_channels=out_channels) '
                f'convolutions, got groups={self.groups}, in_channels={self.in_channels}, '
                f'out_channels={self.out_channels}; use a plain Conv2d there'
            )
        self.ratio = ratio
        self.slim_out = slim_out

    def active_channels(self, in_channels: int) -> tuple[int, int]:
        """Outputs and groups now in force for an input of ``in_channels``."""
        if self.groups > 1:
            return in_channels, in_channels
        return (slim_channels(self.out_channels, self.width, self.ratio) if self.slim_out else self.out_channels), 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) to (N, c(width), H', W')."""
        _check_input(self, x.size(1), self.in_channels)
        out_channels, groups = self.active_channels(x.size(1))
        weight = self.weight[:out_channels, : x.size(1) // groups]
        bias = None if self.bias is None else self.bias[:out_channels]
        padding = self.padding
        if self.padding_mode != 'zeros':
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)


class SlimmableLinear(SlimmableLayer, nn.Linear):
    """:class:`torch.nn.Linear` that reads as many inputs as it is given; all outputs are kept."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C_in) to (..., out_features)."""
        _check_input(self, x.size(-1), self.in_features)
        return F.linear(x, self.weight[:, : x.size(-1)], self.bias)
