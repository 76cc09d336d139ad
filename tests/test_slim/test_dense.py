"""Export of the plain narrow net, against the slimmable net at that width."""

import copy

import pytest
import torch
from mmpretrain.models import ResNeXt
from torch import nn

from us3l_mm.models import SlimmableResNet, SlimmableResNet_CIFAR
from us3l_mm.slim import (
    PrefixConv2d,
    SlimmableBatchNorm2d,
    SlimmableConv2d,
    SlimmableLayer,
    SlimmableLinear,
    calibrate_bn,
    slim_channels,
    to_dense,
    trace_channels,
    use_width,
)

NETS = {
    'R18': lambda: SlimmableResNet(depth=18, stem_channels=16, base_channels=16, out_indices=(0, 1, 2, 3)),
    'R50': lambda: SlimmableResNet(depth=50, stem_channels=16, base_channels=16, out_indices=(0, 1, 2, 3)),
    'ResNeXt-50': lambda: ResNeXt(
        depth=50,
        groups=8,
        width_per_group=16,
        out_indices=(0, 1, 2, 3),
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d'),
        norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d'),
        stem_channels=16,
        base_channels=16,
    ),
    'CIFAR R18': lambda: SlimmableResNet_CIFAR(depth=18, stem_channels=16, base_channels=16),
}
ODD_WIDTHS = [0.25, 0.37, 0.61, 1.0]


@pytest.fixture(scope='module', params=NETS)
def net(request):
    """Calibrated net with weights that are nowhere zero or one; tests must not change it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = NETS[request.param]()
        for parameter in net.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, 0.5, 1.5)
        size = 16 if 'CIFAR' in request.param else 32
        calibrate_bn(net, ODD_WIDTHS, [torch.randn(4, 3, size, size) for _ in range(2)])
    net.size = size
    return net


@pytest.mark.parametrize('width', ODD_WIDTHS)
def test_dense_net_equals_the_slimmable_net(net, width):
    x = torch.randn(3, 3, net.size, net.size)
    dense = to_dense(net, width)
    with torch.no_grad(), use_width(net, width):  # without gradient, so that training forgets no statistics
        for mode in (False, True):
            net.train(mode)
            dense.train(mode)
            expected, got = net(x), dense(x)
            assert len(got) == len(expected)
            for a, b in zip(got, expected):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max().item())


@pytest.mark.parametrize('width', [0.37, 1.0])
def test_dense_net_has_plain_layers_only(net, width):
    dense = to_dense(net, width)
    assert not any(isinstance(module, SlimmableLayer) for module in dense.modules())
    kinds = {SlimmableConv2d: (nn.Conv2d, PrefixConv2d), SlimmableBatchNorm2d: (nn.BatchNorm2d,)}
    for (name, old), (other, new) in zip(net.named_modules(), dense.named_modules()):
        assert name == other
        assert type(new) in kinds.get(type(old), (type(old),))
    assert not any('_0_' in name for name in dense.state_dict())


def test_dense_net_has_memory_of_its_own(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    dense = to_dense(net, 0.61)
    own, full = dense.state_dict(), net.state_dict()
    mine = {tensor.untyped_storage().data_ptr() for tensor in own.values()}
    assert not mine & {tensor.untyped_storage().data_ptr() for tensor in full.values()}
    # A slice that keeps the storage of the full tensor alive would be saved in full.
    assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in own.values())
    for tensor in own.values():
        tensor.zero_()
    assert all(torch.equal(full[name], before[name]) for name in before)


def test_export_leaves_the_net_as_it_was(net):
    net.train()
    net.layer1.eval()
    modes = [module.training for module in net.modules()]
    hooks = [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    dense = to_dense(net, 0.37)
    assert modes == [module.training for module in net.modules()] == [module.training for module in dense.modules()]
    assert hooks == [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules()]
    assert sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in dense.modules()) == 0
    after = net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(m.width == 1.0 for m in net.modules() if isinstance(m, SlimmableLayer))


def test_dense_net_at_full_width_has_the_same_parameters(net):
    state, full = to_dense(net, 1.0).state_dict(), net.state_dict()
    assert all(torch.equal(state[name], full[name]) for name in state)
    assert {name for name in full if '_0_' not in name} == state.keys()


def test_gradient_flags_are_kept():
    net = NETS['R18']()
    net.layer1.requires_grad_(False)
    net.bn1.bias.requires_grad_(False)
    dense = to_dense(net, 0.5, with_statistics=False)
    flags = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    assert flags == {name: parameter.requires_grad for name, parameter in dense.named_parameters()}
    assert set(flags.values()) == {True, False}
    x = dense(torch.randn(2, 3, 32, 32))[-1]
    x.sum().backward()
    assert dense.layer1[0].conv1.weight.grad is None
    assert dense.layer2[0].conv1.weight.grad is not None


def test_export_works_where_gradients_are_off_and_from_a_trained_net():
    net = NETS['R18']()
    net(torch.randn(2, 3, 32, 32))[-1].sum().backward()
    with torch.no_grad():
        dense = to_dense(net, 0.5, with_statistics=False)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in dense.parameters())


def test_uncalibrated_width_is_refused(net):
    with pytest.raises(RuntimeError, match=r'no statistics for width 0.5 .*us3l calibrate'):
        to_dense(net, 0.5)
    dense = to_dense(net, 0.5, with_statistics=False)
    assert all(not t.any() for name, t in dense.state_dict().items() if name.endswith('running_mean'))
    assert all((t == 1).all() for name, t in dense.state_dict().items() if name.endswith('running_var'))


def test_dense_norm_goes_on_training_with_running_statistics(net):
    """Fine-tuning a narrow net is ordinary training."""
    dense = to_dense(net, 0.61)
    dense.train()
    before = dense.bn1.running_mean.clone()
    dense(torch.randn(4, 3, net.size, net.size))
    assert not torch.equal(dense.bn1.running_mean, before)


@pytest.mark.parametrize('width', [0.3, 0.73, 1.0])
def test_traced_channels_follow_the_rounding_rule(width):
    channels, outputs = trace_channels(NETS['R18'](), width)
    assert channels['conv1'] == 3
    assert channels['bn1'] == channels['layer1.0.conv1'] == slim_channels(16, width)
    assert channels['layer4.1.conv2'] == channels['layer4.1.bn2'] == slim_channels(128, width)
    assert [output.size(1) for output in outputs] == [slim_channels(16 * 2**i, width) for i in range(4)]
    assert all(output.is_meta for output in outputs)


def test_export_of_other_layers():
    """Depthwise, biased, padded, dilated and affine-free layers, a linear one and a single layer."""
    net = nn.Sequential(
        SlimmableConv2d(3, 32, 3, padding=1, padding_mode='reflect'),
        SlimmableBatchNorm2d(32, affine=False, eps=1e-2),
        SlimmableConv2d(32, 32, 3, stride=2, dilation=2, groups=32),
        SlimmableConv2d(32, 48, 1, slim_out=False, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        SlimmableLinear(48, 5),
    )
    x = torch.randn(4, 3, 12, 12)
    calibrate_bn(net, [0.5], [x])
    dense = to_dense(net.eval(), 0.5)
    assert dense[1].weight is None and dense[2].groups == 16 and dense[3].out_channels == 48
    with use_width(net, 0.5):
        torch.testing.assert_close(dense(x), net(x), rtol=1e-6, atol=1e-6)
    single = to_dense(net[0], 0.5)
    assert type(single) is nn.Conv2d
    with use_width(net[0], 0.5):
        assert torch.equal(single(x), net[0](x))


def test_layer_used_twice_is_one_layer_in_the_dense_net():
    conv = SlimmableConv2d(16, 16, 3, padding=1)
    net = nn.Sequential(SlimmableConv2d(3, 16, 1), conv, nn.ReLU(), conv)
    dense = to_dense(net, 0.5)
    assert not conv.weight.is_meta
    assert dense[1] is dense[3] and type(dense[1]) is nn.Conv2d
    x = torch.randn(1, 3, 6, 6)
    with use_width(net, 0.5):
        assert torch.equal(dense(x), net(x))


def test_input_channels_that_cannot_be_told_are_errors():
    class Unreached(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    with pytest.raises(ValueError, match=r"cannot tell the input channels.*\{'1': \[\]\}"):
        to_dense(Unreached(SlimmableConv2d(3, 8, 1), SlimmableConv2d(8, 8, 1)), 0.5)

    class Twice(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x)), self[1](x)

    with pytest.raises(ValueError, match=r"\{'1': \[3, 8\]\}"):
        to_dense(Twice(SlimmableConv2d(3, 16, 1), SlimmableConv2d(16, 16, 1)), 0.5)
    with pytest.raises(ValueError, match='does not start with a convolution; pass example_input'):
        to_dense(nn.Sequential(SlimmableLinear(4, 4)), 0.5)
    dense = to_dense(nn.Sequential(SlimmableLinear(4, 4)), 0.5, example_input=torch.randn(2, 3))
    assert dense[0].in_features == 3


def test_plain_convolution_in_front_tells_the_input():
    """As in a ViT: the patch embedding is full."""

    class Patches(nn.Sequential):
        img_size = (12, 8)

        def forward(self, x):
            return self[1](self[0](x).flatten(2).transpose(1, 2))

    net = Patches(nn.Conv2d(5, 16, 4, 4), SlimmableLinear(16, 16, slim_in=True))
    channels, output = trace_channels(net, 0.5)
    assert channels == {'1': 16} and output.shape == (2, 6, 16)
    dense = to_dense(net, 0.5)
    assert dense[0].weight.shape == (16, 5, 4, 4) and dense[1].weight.shape == (16, 8)


def test_parts_of_a_slimmable_layer_are_its_own_business():
    """A layer that keeps a plain norm for each width, as switchable batch norm does."""

    class Switch(SlimmableLayer, nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleDict({str(n): nn.BatchNorm2d(n) for n in (8, 16)})

        def forward(self, x):
            return self.norms[str(x.size(1))](x)

        def dense(self, in_channels, with_statistics=True):
            return copy.deepcopy(self.norms[str(in_channels)])

    net = nn.Sequential(SlimmableConv2d(3, 16, 1), Switch(), SlimmableConv2d(16, 8, 1)).eval()
    dense = to_dense(net, 0.5)
    assert [type(layer) for layer in dense] == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]
    x = torch.randn(2, 3, 4, 4)
    with use_width(net, 0.5):
        assert torch.equal(dense(x), net(x))


def test_unknown_slimmable_layer_is_refused():
    class Mystery(SlimmableLayer, nn.Identity):
        pass

    with pytest.raises(TypeError, match='no dense form known for Mystery'):
        to_dense(nn.Sequential(SlimmableConv2d(3, 8, 1), Mystery()), 0.5)


def test_dense_net_can_be_copied_and_saved(net):
    dense = to_dense(net, 0.61)
    dense.eval()
    twin = copy.deepcopy(dense)
    twin.load_state_dict(dense.state_dict(), strict=True)
    x = torch.randn(2, 3, net.size, net.size)
    assert torch.equal(twin(x)[-1], dense(x)[-1])
