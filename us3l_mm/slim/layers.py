"""Layers that run with the first channels of their weights.

Shapes: N images, C channels, H x W pixels. A layer takes its number of inputs from the input itself; only its
outputs depend on the width, so a backbone needs no code of its own to be slimmable.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channels import active_channels, slim_channels
from .options import arguments_of, check_choice, check_count, check_flag, check_size
from .plain_layers import PrefixConv2d, PrefixLinear, take_tensors
from .shared_slices import SharedSlices, prefix


class SlimmableLayer(nn.Module):
    """Base class of the layers that :func:`us3l_mm.slim.use_width` switches.

    Attributes:
        width (float): Current width multiplier.
        statistics_key (str): Key of the width of the whole network, by which batch norm keeps its statistics.
        shared (SharedSlices, optional): Slices that all calls in one scope share; see ``switch_layers``.
        channel_axis (int): Axis of the input that holds its channels.
        lowered (bool): Whether autocast runs the layer in a lower precision.
    """

    weight: Any
    bias: Any
    width: float = 1.0
    statistics_key: str = '1'
    shared: SharedSlices | None = None
    channel_axis: int = 1
    lowered: bool = True

    def sliced(self, *sizes: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias for the first outputs and inputs; ``sizes`` are those of the first axes of the weight.

        A scope that shares slices them once for all of its forward passes.
        """
        weight, bias = self.weight, self.bias
        if self.shared is None:
            return prefix(weight, sizes), None if bias is None else prefix(bias, sizes)
        dtype = _product_dtype(weight) if self.lowered else weight.dtype  # autocast caches only the casts of leaves
        weight, bias = self.shared.of(self, (weight, bias), sizes, dtype)
        return weight, bias

    def dense(self, in_channels: int, with_statistics: bool = True) -> nn.Module:
        """Build the dense form of this layer at ``self.width``, which shares no memory with it.

        Args:
            in_channels (int): Channels of the input.
            with_statistics (bool): Whether a batch norm takes the calibrated statistics of that width. False
                leaves them at their initial zeros and ones.

        Raises:
            RuntimeError: If ``with_statistics`` and that width is not calibrated.
            TypeError: If the class does not define its dense form.
        """
        raise TypeError(f'no dense form known for {type(self).__name__}; give the class a method `dense`')


def _product_dtype(weight: Tensor) -> torch.dtype:
    """Type to which autocast casts ``weight`` for a convolution or a matrix product."""
    device = weight.device.type
    if weight.dtype == torch.float32 and hasattr(torch, 'get_autocast_dtype'):  # torch 2.4
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return weight.dtype


def check_input(layer: nn.Module, got: int, most: int) -> None:
    """Raise ValueError if an input has more channels than the layer has."""
    if got > most:
        raise ValueError(f'{type(layer).__name__} has {most} input channels, got an input of {got}')


def _check_convolution(given: dict[str, Any]) -> None:
    """Raise an error that names the option of :class:`torch.nn.Conv2d` at fault; torch finds most in training only."""
    for name in ('in_channels', 'out_channels', 'groups'):
        check_count(name, given[name])
    for name in ('kernel_size', 'stride', 'dilation'):
        check_size(name, given[name])
    if given['padding'] not in ('same', 'valid'):
        check_size('padding', given['padding'], least=0)
    check_flag('bias', given['bias'])
    check_choice('padding_mode', given['padding_mode'], ('zeros', 'reflect', 'replicate', 'circular'))


class SlimmableConv2d(SlimmableLayer, nn.Conv2d):
    """:class:`torch.nn.Conv2d` that computes only the first ``c(width)`` outputs.

    Ungrouped convolutions use ``weight[:c(width), :C_in]``. Grouped ones keep the channels of a group and use as
    many groups as the input fills, at least one; channels beyond the last full group are not read.

    Args:
        ratio (int): See :func:`slim_channels`.
        rounding (str): See :func:`slim_channels`.
        slim_out (bool): Whether the width slices the outputs of an ungrouped convolution. Defaults to True.
        *args: As for :class:`torch.nn.Conv2d`.
        **kwargs: As for :class:`torch.nn.Conv2d`.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: str | tuple[int, int]
    dilation: tuple[int, int]

    def __init__(self, *args, ratio: int = 1, rounding: str = 'divisible', slim_out: bool = True, **kwargs) -> None:
        _check_convolution(arguments_of(nn.Conv2d, args, kwargs))
        super().__init__(*args, **kwargs)
        slim_channels(self.out_channels, 1.0, ratio, rounding)  # raises here rather than in training
        self.ratio = ratio
        self.rounding = rounding
        self.slim_out = check_flag('slim_out', slim_out)

    def active(self, in_channels: int) -> tuple[Tensor, Tensor | None, int]:
        """Weight, bias and number of groups at the current width, for an input of ``in_channels``."""
        check_input(self, in_channels, self.in_channels)
        groups, out_channels = 1, self.out_channels
        if self.groups > 1:
            groups = max(1, in_channels // self.weight.size(1))
            out_channels = groups * (self.out_channels // self.groups)
        elif self.slim_out:
            out_channels = active_channels(self.out_channels, self.width, self.ratio, self.rounding)
        return *self.sliced(out_channels, in_channels), groups

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) to (N, c(width), H', W')."""
        weight, bias, groups = self.active(x.size(1))
        read = groups * weight.size(1)
        if read < x.size(1):  # PyTorch 2.6 differentiates a slice of the whole, too
            x = x[:, :read]
        if self.padding_mode == 'zeros':
            return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)
        x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, groups)

    def dense(self, in_channels: int, with_statistics: bool = True) -> nn.Conv2d:
        """Build the dense convolution, a :class:`PrefixConv2d` if it drops inputs; see :meth:`SlimmableLayer.dense`."""
        weight, bias, groups = self.active(in_channels)
        read = groups * weight.size(1)
        shape = (read, weight.size(0), self.kernel_size, self.stride, self.padding, self.dilation)
        kind = nn.Conv2d if read == in_channels else PrefixConv2d
        plain = kind(*shape, groups, bias is not None, self.padding_mode, device='meta')
        return take_tensors(plain, self, weight=weight, bias=bias)


class SlimmableLinear(SlimmableLayer, nn.Linear):
    """:class:`torch.nn.Linear` that reads as many features as its input has.

    Args:
        slim_in (bool): Whether at most the first ``c(width)`` inputs are read.
        slim_out (bool): Whether only the first ``c(width)`` outputs are computed.
        *args: As for :class:`torch.nn.Linear`.
        **kwargs: As for :class:`torch.nn.Linear`.
    """

    channel_axis = -1

    def __init__(self, *args, slim_in: bool = False, slim_out: bool = False, **kwargs) -> None:
        given = arguments_of(nn.Linear, args, kwargs)
        for name in ('in_features', 'out_features'):
            check_count(name, given[name])
        check_flag('bias', given['bias'])
        super().__init__(*args, **kwargs)
        self.slim_in = check_flag('slim_in', slim_in)
        self.slim_out = check_flag('slim_out', slim_out)

    def active(self, in_features: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias at the current width, for an input of ``in_features``."""
        check_input(self, in_features, self.in_features)
        if self.slim_in:
            in_features = min(in_features, active_channels(self.in_features, self.width))
        out_features = active_channels(self.out_features, self.width) if self.slim_out else self.out_features
        return self.sliced(out_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C_in) to (..., out_features), or to (..., c(width)) with ``slim_out``."""
        weight, bias = self.active(x.size(-1))
        if weight.size(1) < x.size(-1):
            x = x[..., : weight.size(1)]
        return F.linear(x, weight, bias)

    def dense(self, in_channels: int, with_statistics: bool = True) -> nn.Linear:
        """Build the dense layer, a :class:`PrefixLinear` if it drops inputs; see :meth:`SlimmableLayer.dense`."""
        weight, bias = self.active(in_channels)
        kind = nn.Linear if weight.size(1) == in_channels else PrefixLinear
        plain = kind(weight.size(1), weight.size(0), bias is not None, device='meta')
        return take_tensors(plain, self, weight=weight, bias=bias)
