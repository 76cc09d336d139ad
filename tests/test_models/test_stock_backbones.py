"""Every stock backbone with a slimmable class: the stock net at full width, one narrow net by three ways below it."""

import mmdet.models
import mmpretrain.models
import pytest
import torch
from torch import nn

import us3l_mm.models.backbones as ours
from us3l_mm.models.backbones import stock_mmdet
from us3l_mm.slim import SlimmableLayer, batch_statistics, calibrate_bn, is_aligned, slim_channels, to_dense, use_width

TINY = dict(
    depth=50, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1), stem_channels=16, base_channels=16
)
THREE = dict(strides=(2, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2))
REGNET = dict(arch=dict(w0=24, wa=24.48, wm=2.54, group_w=16, depth=7, bot_mul=1.0), **THREE)


def hrnet(channels):
    def stage(i):
        block, widths = (
            ('BOTTLENECK', (8 * channels,)) if i == 0 else ('BASIC', [channels * 2**j for j in range(i + 1)])
        )
        return dict(num_modules=1, num_branches=i + 1, block=block, num_blocks=[1] * (i + 1), num_channels=widths)

    return dict(extra={f'stage{i + 1}': stage(i) for i in range(4)}, norm_eval=False)


# Name of the stock backbone, and arguments of a small one.
CASES = {
    'Darknet': dict(norm_eval=False),
    'HRNet': hrnet(2),
    'MobileNetV2': dict(out_indices=(1, 4, 7)),
    'MobileNetV3': dict(out_indices=(1, 3, 8, 12)),
    'RegNet': REGNET,
    'ResNeXt': dict(groups=8, width_per_group=4, **TINY),
    'ResNet': TINY,
    'ResNetV1d': TINY | dict(stem_channels=32),
    'SEResNet': TINY,
}
WIDTH = 0.3
every_backbone = pytest.mark.parametrize('name', CASES)


@pytest.fixture(autouse=True)
def small_darknet(monkeypatch):
    shape = ((1,) * 5, ((32, 64), (64, 48), (48, 64), (64, 48), (48, 64)))
    monkeypatch.setitem(mmdet.models.Darknet.arch_settings, 53, shape)


def own_class(name):
    return getattr(stock_mmdet if name in ('Darknet', 'HRNet') else ours, f'Slimmable{name}')


def stock_class(name):
    return getattr(mmdet.models if name in ('Darknet', 'HRNet') else mmpretrain.models, name)


def randomise(net):
    """Weights and statistics as if trained."""
    for name, tensor in net.state_dict().items():
        if name.endswith('running_mean'):
            tensor.normal_(0, 0.1)
        elif tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return net


def images(n=4):
    return torch.randn(n, 3, 32, 32)


def trained(name):
    """Slimmable net as if trained, not calibrated."""
    net = own_class(name)(**CASES[name])
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * b.abs().max().item())


@every_backbone
def test_full_width_equals_the_stock_net_that_its_checkpoint_is_of(name):
    stock = randomise(stock_class(name)(**CASES[name]))
    net = own_class(name)(**CASES[name])
    assert net.state_dict().keys() == stock.state_dict().keys()
    net.load_state_dict(stock.state_dict(), strict=True)
    x = images()
    for mode in (False, True):
        net.train(mode)
        stock.train(mode)
        assert all(torch.equal(a, b) for a, b in zip(net(x), stock(x), strict=True))


@every_backbone
def test_initial_weights_are_those_of_the_stock_net(name):
    states = []
    for kind in (own_class(name), stock_class(name)):
        torch.manual_seed(3)
        net = kind(**CASES[name])
        net.init_weights()
        states.append(net.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@every_backbone
def test_calibrated_narrow_net_is_the_dense_one_is_the_fixed_width_one_is_a_calibrated_plain_one(name):
    full, batches, x = trained(name), [images(), images()], images()
    calibrate_bn(full, [WIDTH], batches)
    full.eval()
    with torch.no_grad(), use_width(full, WIDTH):
        expected = full(x)
    fixed = own_class(name)(width=WIDTH, **CASES[name])
    fixed.load_state_dict(full.state_dict(), strict=True)
    plain = to_dense(full, WIDTH, with_statistics=False)
    for layer in plain.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
            layer.momentum = None  # torch's cumulative average
    with torch.no_grad():
        for batch in batches:
            plain(batch)
        for net in (to_dense(full, WIDTH), fixed, plain):
            assert not any(isinstance(layer, SlimmableLayer) for layer in net.modules())
            net.eval()
            assert_same(net(x), expected)


@every_backbone
@pytest.mark.parametrize('width', [None, WIDTH])
def test_out_channels_are_those_of_the_outputs(name, width):
    net = own_class(name)(width=width, **CASES[name])
    assert net.out_channels == tuple(y.size(1) for y in net(images()))
    if width is not None and name != 'MobileNetV2':
        full = own_class(name)(**CASES[name]).out_channels
        assert net.out_channels == tuple(slim_channels(channels, width) for channels in full)


@every_backbone
def test_narrow_net_is_the_full_one_with_channels_zeroed(name):
    net = trained(name).double()
    with batch_statistics(net):
        assert is_aligned(net, images().double(), WIDTH)


HALF = TINY | dict(stem_channels=8, base_channels=8)
HALVES = {
    'ResNeXt': dict(groups=4, width_per_group=4, **HALF),
    'ResNetV1d': HALF | dict(stem_channels=16),
    'SEResNet': HALF,
}


@pytest.mark.parametrize('name', HALVES)
def test_narrow_checkpoint_is_one_of_the_stock_net_of_that_size(name):
    """Half the width of a ResNeXt is half its groups; squeeze-and-excitation is sliced on both sides."""
    narrow = randomise(own_class(name)(width=0.5, **CASES[name]))
    stock = stock_class(name)(**HALVES[name])
    stock.load_state_dict(narrow.state_dict(), strict=True)
    stock.eval()
    narrow.eval()
    x = images(1)
    assert all(torch.equal(a, b) for a, b in zip(stock(x), narrow(x), strict=True))
