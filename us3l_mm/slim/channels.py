"""The rule that turns a width into a number of channels."""

import math

from .options import check_choice, check_count
from .width import check_single_width


def _divisible_by_8(value: float) -> int:
    """Nearest multiple of 8, at least 1, and never more than 10 % below ``value``."""
    rounded = max(1, 8 * math.floor((value + 4) / 8))
    return rounded + 8 if rounded < 0.9 * value else rounded


_ROUNDINGS = {'divisible': _divisible_by_8, 'int': lambda value: max(1, int(value))}


def slim_channels(channels: int, width: float, ratio: int = 1, rounding: str = 'divisible') -> int:
    """Number of channels that a layer of ``channels`` channels uses at ``width``.

    ``ratio * round(channels * width / ratio)``, where ``round`` gives a multiple of 8 (MobileNetV2's
    rounding) or the whole number below (S-Net's ``int``). Width 1.0 always uses all channels, every other
    width at least one.

    Args:
        channels (int): Channels at width 1.0.
        width (float): Width multiplier, in (0, 1].
        ratio (int): Factor kept out of the rounding: MobileNetV2's expansion ratio, else 1.
        rounding (str): ``'divisible'`` or ``'int'``.

    Returns:
        int: Channels used, in [1, channels].

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``width`` is outside (0, 1], ``channels`` is no multiple of ``ratio``, or ``rounding`` unknown.

    Source: Sandler et al., "MobileNetV2", CVPR 2018; Yu et al., "Slimmable Neural Networks", ICLR 2019.
    """
    width = check_single_width(width)
    if check_count('channels', channels) % check_count('ratio', ratio):
        raise ValueError(f'channels must be a multiple of ratio, got channels={channels}, ratio={ratio}')
    check_choice('rounding', rounding, tuple(_ROUNDINGS))
    return active_channels(channels, width, ratio, rounding)


def active_channels(channels: int, width: float, ratio: int = 1, rounding: str = 'divisible') -> int:
    """:func:`slim_channels` without its checks, which are too slow for every forward pass."""
    if width == 1.0:
        return channels
    return min(channels, ratio * _ROUNDINGS[rounding](channels * width / ratio))
