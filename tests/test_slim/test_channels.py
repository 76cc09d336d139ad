"""The rounding rule, against a version written in exact fractions from the method's text."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from us3l_mm.slim import check_width, slim_channels


def channels_in_fractions(channels, hundredths, ratio=1):
    """Same rule without floating point: search the multiples of 8 instead of computing one."""
    value = Fraction(channels * hundredths, 100 * ratio)
    below = max(m for m in range(0, channels + 16, 8) if m <= value + 4)  # 8 * floor((v + 4) / 8)
    rounded = max(1, below)
    if rounded < Fraction(9, 10) * value:
        rounded += 8
    return min(channels, ratio * rounded)


@pytest.mark.parametrize('channels', [1, 3, 7, 8, 12, 16, 24, 64, 80, 96, 100, 160, 512, 1000, 2048])
def test_channels_follow_the_formula(channels):
    for hundredths in range(1, 100):
        assert slim_channels(channels, hundredths / 100) == channels_in_fractions(channels, hundredths), hundredths


@pytest.mark.parametrize('ratio', [2, 3, 4, 6])
@pytest.mark.parametrize('inner', [16, 24, 32, 96, 160])
def test_ratio_stays_out_of_the_rounding(inner, ratio):
    for hundredths in range(20, 100, 3):
        got = slim_channels(inner * ratio, hundredths / 100, ratio)
        assert got == channels_in_fractions(inner * ratio, hundredths, ratio)
        # MobileNetV2: hidden channels are the expansion times the channels of the block's input.
        assert got == ratio * slim_channels(inner, hundredths / 100)


@pytest.mark.parametrize('channels', [1, 3, 16, 64, 100, 512])
def test_int_rounding_is_the_whole_number_below(channels):
    """S-Net's ``int(C * w)``; hundredths are no binary fractions, so widths are taken from 64ths."""
    for n in range(1, 65):
        assert slim_channels(channels, n / 64, rounding='int') == max(1, channels * n // 64)
        assert slim_channels(6 * channels, n / 64, 6, 'int') == 6 * max(1, channels * n // 64)


def test_unknown_rounding_is_refused():
    for width in (0.5, 1.0):
        with pytest.raises(ValueError, match=r"rounding must be one of \('divisible', 'int'\), got 'floor'"):
            slim_channels(64, width, rounding='floor')


@pytest.mark.parametrize(
    'channels, width, expected',
    [(64, 0.3, 24), (512, 0.73, 376), (256, 0.3, 80), (512, 0.3, 152), (1024, 0.3, 304), (2048, 0.3, 616)],
)
def test_examples_of_the_method(channels, width, expected):
    assert slim_channels(channels, width) == expected


@pytest.mark.parametrize('channels', [1, 2, 3, 5, 9, 13, 17, 30, 63, 65, 100])
def test_never_more_channels_than_there_are_and_never_fewer_at_a_larger_width(channels):
    counts = [slim_channels(channels, w / 1000) for w in range(1, 1001)]
    assert min(counts) >= 1
    assert max(counts) == counts[-1] == channels


@pytest.mark.parametrize('channels', [64, 96, 128, 512])
def test_narrower_is_a_prefix_of_wider(channels):
    # From 4 channels on: the method's rounding makes 9 of 2 channels, but 8 of 4.
    counts = [slim_channels(channels, w / 1000) for w in range(1, 1001) if channels * w >= 4000]
    assert counts == sorted(counts)


@pytest.mark.parametrize('channels, ratio', [(1, 1), (3, 1), (20, 1), (63, 1), (30, 6), (2048, 1)])
def test_width_one_is_all_channels(channels, ratio):
    assert slim_channels(channels, 1.0, ratio) == channels
    assert slim_channels(channels, 1, ratio) == channels


@pytest.mark.parametrize('width', [True, False, '0.5', None, [0.5], 0.5j, torch.tensor(0.5)])
def test_width_that_is_no_number_is_a_type_error(width):
    for call in (check_width, lambda w: slim_channels(64, w)):
        with pytest.raises(TypeError, match=r'width must be a number in \(0, 1\], got .* of type'):
            call(width)


@pytest.mark.parametrize('width', [0, 0.0, -1, -0.25, 1.5, 1.0000001, float('nan'), float('inf'), -float('inf')])
def test_width_out_of_range_is_a_value_error(width):
    for call in (check_width, lambda w: slim_channels(64, w)):
        with pytest.raises(ValueError, match=rf'width must be in \(0, 1\], got {width}'):
            call(width)


@pytest.mark.parametrize('width', [1, 0.25, np.float64(0.25), np.float32(0.25), Fraction(1, 4)])
def test_check_width_gives_a_plain_float(width):
    assert type(check_width(width)) is float
    assert check_width(width) == width


@pytest.mark.parametrize(
    'channels, ratio, message',
    [
        (0, 1, 'channels must be a whole number from 1, got 0'),
        (-8, 1, 'channels must be a whole number from 1, got -8'),
        (64, 0, 'ratio must be a whole number from 1, got 0'),
        (64, -1, 'ratio must be a whole number from 1, got -1'),
        (64, 6, 'channels must be a multiple of ratio, got channels=64, ratio=6'),
        (7, 2, 'channels must be a multiple of ratio, got channels=7, ratio=2'),
    ],
)
def test_impossible_channels_are_refused(channels, ratio, message):
    with pytest.raises(ValueError, match=message):
        slim_channels(channels, 0.5, ratio)
