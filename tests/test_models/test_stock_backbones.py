"""Every stock backbone with a slimmable class: the stock net at full width, one narrow net by three ways below it."""

import importlib.util

import mmdet.models
import mmpretrain.models
import pytest
import torch
from torch import nn

import us3l_mm.models.backbones as ours
from us3l_mm.slim import calibrate_bn, slim_channels, to_dense, use_width
from us3l_mm.slim.layers import SlimmableLayer

spec = importlib.util.spec_from_file_location('backbone_table', 'tools/backbone_table.py')
backbone_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(backbone_table)

STAGES = dict(out_indices=(0, 1, 2, 3))
TINY = dict(depth=50, stem_channels=16, base_channels=16, **STAGES)
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
    'HRNet': hrnet(16),
    'MobileNetV2': dict(out_indices=(1, 4, 7)),
    'MobileNetV3': dict(out_indices=(1, 3, 8, 12)),
    'RegNet': REGNET,
    'ResNeXt': dict(groups=8, width_per_group=4, **TINY),
    'ResNet': TINY,
    'ResNetV1d': TINY,
    'SEResNet': TINY,
}
WIDTHS = (1.0, 0.61, 0.3)
every_backbone = pytest.mark.parametrize('name', CASES)


@pytest.fixture(autouse=True)
def small_darknet(monkeypatch):
    shape = ((1,) * 5, ((32, 64), (64, 48), (48, 64), (64, 48), (48, 64)))
    monkeypatch.setitem(mmdet.models.Darknet.arch_settings, 53, shape)


def own_class(name):
    return getattr(ours, f'Slimmable{name}')


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
    return torch.randn(n, 3, 64, 64, dtype=torch.float64)


def trained(name):
    """Slimmable net of float64 as if trained, not calibrated."""
    net = own_class(name)(**CASES[name]).double()
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * b.abs().max().item())


@every_backbone
def test_full_width_equals_the_stock_net_that_its_checkpoint_is_of(name):
    stock = randomise(stock_class(name)(**CASES[name]))
    net = own_class(name)(**CASES[name])
    assert net.state_dict().keys() == stock.state_dict().keys()
    net.load_state_dict(stock.state_dict(), strict=True)
    x = images().float()
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
def test_calibrated_narrow_net_is_the_dense_one_is_the_fixed_width_one(name):
    full, batches, x = trained(name), [images(), images()], images(2)
    calibrate_bn(full, WIDTHS, batches)
    full.eval()
    for width in WIDTHS:
        with torch.no_grad(), use_width(full, width):
            expected = full(x)
        fixed = own_class(name)(width=width, **CASES[name]).double()
        fixed.load_state_dict(full.state_dict(), strict=True)
        for net in (to_dense(full, width, x), fixed):
            assert not any(isinstance(layer, SlimmableLayer) for layer in net.modules())
            net.eval()
            with torch.no_grad():
                assert_same(net(x), expected)


@every_backbone
def test_calibration_is_that_of_a_plain_narrow_net(name):
    full, batches, x = trained(name), [images(), images()], images(2)
    plain = to_dense(full, 0.3, x, with_statistics=False)
    for layer in plain.modules():
        layer.training = isinstance(layer, nn.BatchNorm2d)
        if layer.training:
            layer.momentum = None  # torch's cumulative average
    calibrate_bn(full, [0.3], batches)
    plain_outputs = [plain(batch) for batch in batches]
    full.eval()
    plain.eval()
    with torch.no_grad(), use_width(full, 0.3):
        assert_same(full(x), plain(x))
    assert len(plain_outputs) == 2


@every_backbone
@pytest.mark.parametrize('width', [None, 0.3])
def test_out_channels_are_those_of_the_outputs(name, width):
    net = own_class(name)(width=width, **CASES[name])
    assert net.out_channels == tuple(y.size(1) for y in net(images().float()))
    if width is not None and name != 'MobileNetV2':
        full = own_class(name)(**CASES[name]).out_channels
        assert net.out_channels == tuple(slim_channels(channels, width) for channels in full)


@every_backbone
def test_narrow_net_is_the_full_one_with_channels_zeroed(name):
    net = backbone_table.only_norms_train(trained(name))
    assert backbone_table.is_aligned(net, images(2), 0.3)


HALVES = {
    'HRNet': hrnet(8),
    'ResNeXt': dict(groups=4, width_per_group=4, **TINY | dict(stem_channels=8, base_channels=8)),
    'ResNetV1d': TINY | dict(stem_channels=8, base_channels=8),
    'SEResNet': TINY | dict(stem_channels=8, base_channels=8),
}


@pytest.mark.parametrize('name', HALVES)
def test_narrow_checkpoint_is_one_of_the_stock_net_of_that_size(name):
    """With ResNeXt, half the width is half the groups; a squeeze-and-excitation block is sliced on both sides."""
    narrow = randomise(own_class(name)(width=0.5, **CASES[name]))
    stock = stock_class(name)(**HALVES[name])
    stock.load_state_dict(narrow.state_dict(), strict=True)
    stock.eval()
    narrow.eval()
    x = images(1).float()
    assert all(torch.equal(a, b) for a, b in zip(stock(x), narrow(x), strict=True))


@pytest.mark.parametrize('name', ['HRNet', 'MobileNetV2', 'RegNet', 'ResNeXt', 'ResNetV1d'])
def test_both_libraries_have_the_keys_and_shapes_of_our_class(name):
    options = {key: value for key, value in CASES[name].items() if key not in ('width_per_group', 'norm_eval')}
    want = {key: tensor.shape for key, tensor in own_class(name)(**options).state_dict().items()}
    for library in (mmpretrain.models, mmdet.models):
        got = getattr(library.backbones, name)(**options).state_dict()
        assert {key: tensor.shape for key, tensor in got.items()} == want
