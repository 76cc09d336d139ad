"""Switchable batch norm is a plain batch norm of its own at each listed width."""

import copy

import pytest
import torch
from torch import nn

from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import SlimmableConv2d, SwitchableBatchNorm2d, to_dense, use_width

WIDTHS = (0.3, 0.5, 1.0)


def randomise(layer):
    for tensor in layer.state_dict().values():
        if tensor.dtype.is_floating_point:
            tensor.uniform_(0.5, 1.5)
    return layer


def plain_norms():
    """For each width a plain layer of int(20 w) channels."""
    return {width: randomise(nn.BatchNorm2d(int(20 * width))) for width in WIDTHS}


def switchable(plain):
    layer = SwitchableBatchNorm2d(20, widths=WIDTHS)
    state = {name: tensor for name, tensor in plain[1.0].state_dict().items()}
    for width, key in ((0.3, '0_3'), (0.5, '0_5')):
        state.update({f'private.{key}.{name}': tensor for name, tensor in plain[width].state_dict().items()})
    layer.load_state_dict(state, strict=True)  # copies
    return layer


@pytest.mark.parametrize('training', [True, False])
def test_each_width_equals_a_plain_layer_and_keeps_its_own_statistics(training):
    plain = plain_norms()
    layer = switchable(copy.deepcopy(plain)).train(training)
    for _ in range(2):
        for width, norm in plain.items():
            x = torch.randn(4, int(20 * width), 5, 5)
            with use_width(layer, width):
                assert torch.equal(layer(x), norm.train(training)(x))
    for width, norm in plain.items():
        own = layer if width == 1.0 else layer.private[{0.3: '0_3', 0.5: '0_5'}[width]]
        assert torch.equal(own.running_mean, norm.running_mean) and torch.equal(own.running_var, norm.running_var)


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('with_statistics', [True, False])
def test_dense_form_is_the_plain_layer(width, with_statistics):
    plain = plain_norms()
    layer = switchable(plain).eval()
    layer.weight.requires_grad_(False)
    with use_width(layer, width):
        dense = layer.dense(int(20 * width), with_statistics)
    assert type(dense) is nn.BatchNorm2d and not list(dense.children()) and not dense.training
    assert dense.weight.requires_grad == (width != 1.0)
    expected = plain[width].state_dict()
    if not with_statistics:
        expected.update(
            nn.BatchNorm2d(int(20 * width)).state_dict(), weight=plain[width].weight, bias=plain[width].bias
        )
    assert dense.state_dict().keys() == expected.keys()
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert dense.weight.data_ptr() != layer.weight.data_ptr()


def test_width_that_is_not_listed_is_refused_on_entering_the_scope():
    net = nn.Sequential(SlimmableConv2d(3, 20, 3, rounding='int'), SwitchableBatchNorm2d(20, widths=WIDTHS))
    with pytest.raises(ValueError, match=r'no width 0\.7, only 0\.3, 0\.5, 1; add it to `widths`'), use_width(net, 0.7):
        pass
    assert [layer.width for layer in net] == [1.0, 1.0]


def net(seed=0):
    torch.manual_seed(seed)
    return SlimmableResNet_CIFAR(
        18,
        stem_channels=20,
        base_channels=20,
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=WIDTHS),
    )


@pytest.mark.parametrize('width', WIDTHS)
def test_backbone_has_truncated_channels_and_equals_its_dense_form(width):
    slimmable = randomise(net()).eval()
    x = torch.randn(2, 3, 16, 16)
    with use_width(slimmable, width):
        (features,) = slimmable(x)
    assert features.size(1) == int(160 * width)
    dense = to_dense(slimmable, width)
    assert not any(isinstance(layer, (SwitchableBatchNorm2d, SlimmableConv2d)) for layer in dense.modules())
    torch.testing.assert_close(dense(x)[0], features)


def test_fixed_width_net_takes_the_private_norms_of_a_full_checkpoint():
    slimmable = randomise(net()).eval()
    narrow = SlimmableResNet_CIFAR(
        18,
        width=0.5,
        stem_channels=20,
        base_channels=20,
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=WIDTHS),
    ).eval()
    narrow.load_state_dict(slimmable.state_dict(), strict=True)
    x = torch.randn(2, 3, 16, 16)
    with use_width(slimmable, 0.5):
        (features,) = slimmable(x)
    torch.testing.assert_close(narrow(x)[0], features)
