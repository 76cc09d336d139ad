"""Norms of weights by group of channels, against loops over channels."""

import math

import pytest
import torch
from torch import nn

from us3l_mm.evaluation.group_norms import (
    CONVOLUTIONS,
    LINEARS,
    SCALES,
    backbone_state,
    group_rms,
    norms_by_group,
    relative,
)
from us3l_mm.models import SlimmableResNet_CIFAR


def rms_by_loops(channels, num_groups):
    """Equal groups, of one channel at the least; the last takes the rest."""
    per_group = max(1, len(channels) // num_groups)
    groups = [[] for _ in range(num_groups)]
    for i, channel in enumerate(channels):
        groups[min(i // per_group, num_groups - 1)].extend(channel.flatten().tolist())
    return [math.sqrt(sum(v * v for v in group) / len(group)) if group else math.nan for group in groups]


@pytest.mark.parametrize('channels', [16, 19, 8, 5])
def test_groups_are_those_of_a_loop(channels):
    torch.manual_seed(0)
    weight = torch.randn(channels, 3, 2, 2)
    expected = torch.tensor(rms_by_loops(weight, 8), dtype=torch.double)
    torch.testing.assert_close(group_rms(weight), expected, equal_nan=True)
    by_inputs = weight.movedim(0, 1)
    torch.testing.assert_close(group_rms(by_inputs, axis=1), expected, equal_nan=True)
    scales = torch.tensor(rms_by_loops(weight[:, 0, 0, 0], 4), dtype=torch.double)
    torch.testing.assert_close(group_rms(weight[:, 0, 0, 0], 4), scales, equal_nan=True)


def test_each_kind_of_weight_of_a_backbone_is_found():
    net = SlimmableResNet_CIFAR(depth=18, stem_channels=16, base_channels=16)
    found = norms_by_group(net.state_dict())
    assert found.keys() == {CONVOLUTIONS, SCALES}
    modules = dict(net.named_modules())
    assert found[CONVOLUTIONS].keys() == {name for name, m in modules.items() if isinstance(m, nn.Conv2d)}
    assert found[SCALES].keys() == {name for name, m in modules.items() if isinstance(m, nn.BatchNorm2d)}
    layer = nn.Linear(8, 4)
    linear = norms_by_group({f'fc.{key}': value for key, value in layer.state_dict().items()}, 2)[LINEARS]['fc']
    expected = [part.square().mean().sqrt() for part in layer.weight.detach().double().chunk(2, dim=1)]
    torch.testing.assert_close(linear, torch.stack(expected))


def test_relative_norms_have_mean_one_and_leave_zeros_out():
    norms = relative({'a': torch.tensor([1.0, 3.0]), 'zeros': torch.zeros(2)})
    torch.testing.assert_close(norms, torch.tensor([[0.5, 1.5], [math.nan, math.nan]]), equal_nan=True)


def test_online_backbone_is_taken_and_not_its_teacher():
    state = {'teacher.backbone.a.weight': 1, 'backbone.a.weight': 2, 'neck.weight': 3}
    assert backbone_state(state) == {'a.weight': 2}
    assert backbone_state(state, 'teacher.backbone.') == {'a.weight': 1}
    assert backbone_state({'a.weight': 4}) == {'a.weight': 4}
    with pytest.raises(ValueError, match="no key starts with 'ema.'"):
        backbone_state(state, 'ema.')


def test_bad_weights_are_refused():
    with pytest.raises(ValueError, match='conv.weight has values that are not finite'):
        norms_by_group({'conv.weight': torch.full((8, 1, 1, 1), torch.nan)})
    with pytest.raises(ValueError, match='no weights of convolutions'):
        norms_by_group({'conv.bias': torch.ones(8)})
