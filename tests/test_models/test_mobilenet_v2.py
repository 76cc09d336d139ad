"""Slimmable MobileNetV2, against the stock one and against sliced weights by hand."""

import math

import mmpretrain.models
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from us3l_mm.models import SlimmableMobileNetV2, SlimmableMobileNetV2_CIFAR
from us3l_mm.registry import MODELS
from us3l_mm.slim import calibrate_bn, use_width

WIDTHS = [1.0, 0.83, 0.6, 0.41, 0.25]
# Expansion, channels, blocks, stride of the paper's Table 2.
TABLE = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
STAGES = tuple(range(8))


def c(channels, width):
    """MobileNetV2's rounding of channels * width."""
    value = channels * width
    rounded = max(1, int(8 * math.floor((value + 4) / 8)))
    return channels if width == 1 else min(channels, rounded + 8 if rounded < 0.9 * value else rounded)


def features_by_hand(state, x, width, cifar=False):
    """Outputs of the eight stages in training mode, by plain functions on slices of the full weights."""

    def layer(x, name, outputs, stride=1, depthwise=False, activate=True):
        weight = state[f'{name}.conv.weight']
        inputs = 1 if depthwise else x.size(1)
        padding, groups = weight.size(2) // 2, outputs if depthwise else 1
        x = F.conv2d(x, weight[:outputs, :inputs], stride=stride, padding=padding, groups=groups)
        affine = (state[f'{name}.bn.{kind}'][:outputs] for kind in ('weight', 'bias'))
        x = F.batch_norm(x, None, None, *affine, training=True)
        return F.relu6(x) if activate else x

    x = layer(x, 'conv1', c(32, width), stride=1 if cifar else 2)
    features = []
    for stage, (expansion, channels, blocks, stride) in enumerate(TABLE, start=1):
        stride = 1 if cifar and channels == 24 else stride
        for block in range(blocks):
            first, hidden = x, expansion * x.size(1)
            names = [f'layer{stage}.{block}.conv.{i}' for i in range(2 if expansion == 1 else 3)]
            if expansion > 1:
                x = layer(x, names[-3], hidden)
            x = layer(x, names[-2], hidden, stride if block == 0 else 1, depthwise=True)
            x = layer(x, names[-1], c(channels, width), activate=False)
            x = first + x if block > 0 else x  # the first block of a stage changes its channels
        features.append(x)
    return [*features, layer(x, 'conv2', 1280)]


def build(kind=SlimmableMobileNetV2, **options):
    net = MODELS.build(dict(type=f'us3l_mm.{kind.__name__}', out_indices=STAGES) | options)
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('kind', [SlimmableMobileNetV2, SlimmableMobileNetV2_CIFAR])
def test_equals_sliced_weights_by_hand(kind, width):
    net = build(kind).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = features_by_hand(net.state_dict(), x, width, kind is SlimmableMobileNetV2_CIFAR)
    with use_width(net, width), torch.no_grad():
        got = net(x)
    assert [feature.size(1) for feature in got] == [*(c(row[1], width) for row in TABLE), 1280]
    for a, b in zip(got, expected):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_keys_and_full_width_are_those_of_the_stock_net():
    net, stock = build(), mmpretrain.models.MobileNetV2(out_indices=STAGES)
    assert net.state_dict().keys() == stock.state_dict().keys()
    stock.load_state_dict(net.state_dict(), strict=True)
    x = torch.randn(2, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(net(x), stock(x)))


@pytest.mark.parametrize('width', [None, 0.41])
def test_small_images_keep_more_pixels(width):
    net = build(SlimmableMobileNetV2_CIFAR, width=width)
    sizes = [feature.size(-1) for feature in net(torch.randn(2, 3, 32, 32))]
    assert sizes == [32, 32, 16, 8, 8, 4, 4, 4]
    assert SlimmableMobileNetV2.arch_settings == mmpretrain.models.MobileNetV2.arch_settings


@pytest.mark.parametrize('width', [0.6, 0.25])
def test_fixed_width_net_loaded_from_a_full_checkpoint_equals_the_slimmable_net(width):
    full = build(SlimmableMobileNetV2_CIFAR, widen_factor=0.5)
    calibrate_bn(full, [width], [torch.randn(4, 3, 16, 16) for _ in range(2)])
    full.eval()
    narrow = build(SlimmableMobileNetV2_CIFAR, widen_factor=0.5, width=width)
    narrow.load_state_dict(full.state_dict(), strict=True)
    narrow.eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad(), use_width(full, width):
        expected = full(x)
    assert narrow.out_channels == tuple(feature.size(1) for feature in expected)
    for a, b in zip(narrow(x), expected):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max().item())
