"""Parts of a network at widths of their own."""

import pytest
import torch
from torch import nn

from us3l_mm.models import SlimmableResNet, SlimmableResNet_CIFAR
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableLayer, calibrate_bn, slim_channels, to_dense, use_width

MIXED = {'conv1': 0.5, 'layer1': 0.5, 'layer2': 0.8, 'layer4': 0.3, 'layer4.1.conv1': 0.6}


def images(n=4, size=32):
    return torch.randn(n, 3, size, size)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = SlimmableResNet_CIFAR(18, stem_channels=32, base_channels=32, out_indices=(0, 1, 2, 3))
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def test_each_layer_has_the_width_of_its_innermost_part_and_gets_its_own_back(net):
    with use_width(net, MIXED):
        widths = {name: layer.width for name, layer in net.named_modules() if isinstance(layer, SlimmableLayer)}
    assert widths['conv1'] == widths['layer1.0.bn2'] == widths['layer1.1.conv1'] == 0.5
    assert widths['bn1'] == 1.0 and widths['layer3.0.conv1'] == 1.0
    assert widths['layer2.0.downsample.0'] == 0.8
    assert widths['layer4.0.conv1'] == widths['layer4.1.conv2'] == 0.3 and widths['layer4.1.conv1'] == 0.6
    assert all(
        layer.width == 1.0 and layer.statistics_key == '1'
        for layer in net.modules()
        if isinstance(layer, SlimmableLayer)
    )


def test_features_equal_a_net_cut_by_hand(net):
    """A net whose weights beyond each layer's channels are cut off, run by functions of torch."""
    x = images()
    with use_width(net, MIXED):
        outputs = net(x)

    def at(name):
        owner = max((part for part in MIXED if f'{name}.'.startswith(f'{part}.')), key=len, default=None)
        return MIXED.get(owner, 1.0)

    def conv_norm(x, conv, norm, stride=1):
        weight = net.get_submodule(conv).weight
        weight = weight[: slim_channels(len(weight), at(conv)), : x.size(1)]
        x = torch.nn.functional.conv2d(x, weight, stride=stride, padding=weight.size(-1) // 2)
        bn, c = net.get_submodule(norm), x.size(1)
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        return (x - mean) / (var + bn.eps).sqrt() * bn.weight[:c, None, None] + bn.bias[:c, None, None]

    x = conv_norm(x, 'conv1', 'bn1').relu()
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f'layer{stage}.{block}', 2 if stage > 1 and block == 0 else 1
            y = conv_norm(x, f'{name}.conv1', f'{name}.bn1', stride).relu()
            y = conv_norm(y, f'{name}.conv2', f'{name}.bn2')
            if stage > 1 and block == 0:
                x = conv_norm(x, f'{name}.downsample.0', f'{name}.downsample.1', stride)
            x = (x + y).relu()
        torch.testing.assert_close(outputs[stage - 1], x, rtol=1e-3, atol=1e-4)
    assert [output.size(1) for output in outputs] == [16, 48, 128, 80]


def test_statistics_are_those_of_the_very_widths(net):
    batches = [images() for _ in range(2)]
    calibrate_bn(net, [0.5, MIXED], batches)
    state = net.state_dict()
    net.eval()
    x = images()
    with use_width(net, MIXED):
        mixed = net(x)
    dense = to_dense(net, MIXED)
    assert not any(isinstance(layer, SlimmableLayer) for layer in dense.modules())
    for a, b in zip(mixed, dense(x)):
        torch.testing.assert_close(a, b)
    # layer1 is at 0.5 in both nets, the layers behind it are not: the statistics of one are not the other's.
    bn = net.layer1[0].bn1
    assert torch.equal(bn.statistics(0.5)[0], bn.statistics(MIXED)[0])
    other = {**MIXED, 'layer2': 0.5}
    with (
        pytest.raises(RuntimeError, match=r'no statistics for width conv1=0\.5,layer1=0\.5,layer2=0\.5'),
        use_width(net, other),
    ):
        net(x)
    again = SlimmableResNet_CIFAR(18, stem_channels=32, base_channels=32, out_indices=(0, 1, 2, 3)).eval()
    again.load_state_dict(state, strict=True)
    with use_width(again, MIXED):
        assert all(torch.equal(a, b) for a, b in zip(again(x), mixed))


def test_one_width_for_all_parts_is_that_width(net):
    x = images()
    calibrate_bn(net, [0.5], [x])
    net.eval()
    parts = dict.fromkeys(['conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4'], 0.5)
    with use_width(net, 0.5):
        expected = net(x)
    with use_width(net, parts):
        assert all(torch.equal(a, b) for a, b in zip(net(x), expected))


def test_residual_sum_of_two_widths_is_refused_on_entering(net):
    message = r'SlimmableResNet_CIFAR cannot run at width layer1=0\.5 .*residual sum, need one width'
    with pytest.raises(ValueError, match=message), use_width(net, {'layer1': 0.5}):  # its input, the stem, is full
        pytest.fail('entered')
    assert net.conv1.width == 1.0
    with pytest.raises(ValueError, match='residual sum, need one width'):
        to_dense(net, {'layer2.1': 0.5}, with_statistics=False)


def test_bottlenecks_may_be_narrow_inside(net):
    resnet = SlimmableResNet(50, stem_channels=16, base_channels=16)
    inside = {f'layer{i}.{j}.conv{k}': 0.5 for i, blocks in ((1, 3), (2, 4)) for j in range(blocks) for k in (1, 2)}
    dense = to_dense(resnet, inside, with_statistics=False)
    assert dense.layer1[0].conv2.weight.shape[:2] == (8, 8) and dense.layer1[0].conv3.weight.shape[:2] == (64, 8)
    assert dense.layer3[0].conv1.weight.shape == resnet.layer3[0].conv1.weight.shape


@pytest.mark.parametrize('parts', [{'layer9': 0.5}, {'layer1': 0.5, 'layer1.7': 0.5}, {'layer': 0.5}])
def test_part_without_slimmable_layers_is_named(net, parts):
    message = r"no slimmable layer in .*; its parts: \['conv1', 'bn1', 'layer1'"
    with pytest.raises(ValueError, match=message), use_width(net, parts):
        pytest.fail('entered')


def test_bad_widths_of_parts_are_refused(net):
    with pytest.raises(ValueError, match=r'width must be in \(0, 1\], got 1.5'), use_width(net, {'layer2': 1.5}):
        pass
    with pytest.raises(TypeError, match='width must be a number'), use_width(net, {'layer2': '0.5'}):
        pass
    with pytest.raises(ValueError, match='need at least one part'), use_width(net, {}):
        pass


def test_switchable_batch_norm_refuses_mixed_widths():
    net = SlimmableResNet_CIFAR(
        18,
        stem_channels=16,
        base_channels=16,
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', rounding='divisible'),
    )
    message = r'switchable batch norm has no width layer2=0\.5, only 0\.25, 0\.5, 0\.75, 1'
    with pytest.raises(ValueError, match=message), use_width(net, {'layer2': 0.5}):
        pass


def test_norms_of_one_width_are_untouched_by_mixed_ones(net):
    calibrate_bn(net, [0.5], [images()])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    calibrate_bn(net, [MIXED], [images()])
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    norms = [layer for layer in net.modules() if isinstance(layer, SlimmableBatchNorm2d)]
    assert all(len(norm.calibrated) == 2 for norm in norms)


def test_fixed_narrow_net_of_mixed_widths_takes_a_calibrated_checkpoint(net):
    calibrate_bn(net, [MIXED], [images() for _ in range(2)])
    options = dict(stem_channels=32, base_channels=32, out_indices=(0, 1, 2, 3))
    narrow = SlimmableResNet_CIFAR(18, width=MIXED, **options).eval()
    assert narrow.out_channels == (16, 48, 128, 80)
    assert not any(isinstance(layer, SlimmableLayer) for layer in narrow.modules())
    narrow.load_state_dict(net.state_dict(), strict=True)
    net.eval()
    x = images()
    with use_width(net, MIXED):
        for a, b in zip(net(x), narrow(x)):
            torch.testing.assert_close(a, b)
    other = SlimmableResNet_CIFAR(18, width={**MIXED, 'layer4': 0.5}, **options)
    with pytest.raises(RuntimeError, match=r'--widths conv1=0\.5,layer1=0\.5,layer2=0\.8,layer4=0\.5,'):
        other.load_state_dict(net.state_dict())
