"""Slimmable convolution, linear and batch-norm layers, against plain functions on sliced weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from us3l_mm.slim import (
    PrefixConv2d,
    PrefixLinear,
    SlimmableBatchNorm2d,
    SlimmableConv2d,
    SlimmableLinear,
    calibrate_bn,
    slim_channels,
    to_dense,
    use_width,
)

WIDTHS = [0.25, 0.37, 0.5, 0.8, 1.0]
CONVS = {
    'plain': dict(kernel_size=3, bias=False),
    'padded': dict(kernel_size=3, padding=1),
    'one by one': dict(kernel_size=1),
    'strided': dict(kernel_size=3, stride=2, padding=1),
    'dilated': dict(kernel_size=3, dilation=2, padding=2),
    'oblong': dict(kernel_size=(3, 1), stride=(1, 2), padding=(1, 0), dilation=(2, 1)),
}


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('kind', CONVS)
def test_dense_conv_equals_conv_on_sliced_weights(kind, width):
    options = CONVS[kind]
    conv = SlimmableConv2d(24, 40, **options)
    fixed = {key: options[key] for key in ('stride', 'padding', 'dilation') if key in options}
    for in_channels in (3, 8, 16, 24):  # the input may be narrower by any amount
        x = torch.randn(2, in_channels, 9, 9)
        outputs = slim_channels(40, width)
        bias = conv.bias[:outputs] if options.get('bias', True) else None
        expected = F.conv2d(x, conv.weight[:outputs, :in_channels], bias, **fixed)
        with use_width(conv, width):
            assert torch.equal(conv(x), expected)


@pytest.mark.parametrize('channels', [8, 16, 32])
@pytest.mark.parametrize('kind', ['padded', 'strided', 'dilated'])
def test_depthwise_conv_follows_its_input(kind, channels):
    options = CONVS[kind]
    conv = SlimmableConv2d(32, 32, groups=32, **options)
    fixed = {key: options[key] for key in ('stride', 'padding', 'dilation') if key in options}
    x = torch.randn(2, channels, 9, 9)
    expected = torch.cat(
        [F.conv2d(x[:, i : i + 1], conv.weight[i : i + 1], conv.bias[i : i + 1], **fixed) for i in range(channels)], 1
    )
    for width in (0.25, 1.0):  # its own width has no say
        with use_width(conv, width):
            torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('mode', ['zeros', 'reflect', 'replicate', 'circular'])
@pytest.mark.parametrize('padding', [1, (1, 2), 'same'])
def test_padding_modes_equal_the_plain_conv_on_sliced_weights(mode, padding):
    conv = SlimmableConv2d(16, 32, 3, padding=padding, padding_mode=mode)
    plain = nn.Conv2d(8, 16, 3, padding=padding, padding_mode=mode)
    plain.weight.data, plain.bias.data = conv.weight.data[:16, :8].clone(), conv.bias.data[:16].clone()
    x = torch.randn(2, 8, 7, 7)
    with use_width(conv, 0.5):
        torch.testing.assert_close(conv(x), plain(x), rtol=0, atol=1e-6)


def test_conv_that_slices_inputs_only_keeps_all_outputs():
    conv = SlimmableConv2d(32, 64, 1, slim_out=False)
    x = torch.randn(2, 16, 4, 4)
    with use_width(conv, 0.5):
        assert torch.equal(conv(x), F.conv2d(x, conv.weight[:, :16], conv.bias))


def test_conv_ratio_stays_out_of_the_rounding():
    conv = SlimmableConv2d(24, 144, 1, ratio=6)
    with use_width(conv, 0.35):  # 24 * 0.35 = 8.4 -> 8
        assert conv(torch.randn(1, 8, 4, 4)).size(1) == 48


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('groups', [1, 32])
def test_conv_gradient_is_that_of_a_plain_conv_inside_and_zero_outside(width, groups):
    conv = SlimmableConv2d(32, 32, 3, padding=1, groups=groups).double()
    inputs = slim_channels(32, width)
    outputs = slim_channels(32, width)
    plain = nn.Conv2d(inputs, outputs, 3, padding=1, groups=inputs if groups > 1 else 1).double()
    reach = 1 if groups > 1 else inputs
    plain.weight.data, plain.bias.data = conv.weight.data[:outputs, :reach].clone(), conv.bias.data[:outputs].clone()
    x = torch.randn(2, inputs, 5, 5, dtype=torch.float64)
    target = torch.randn(2, outputs, 5, 5, dtype=torch.float64)
    with use_width(conv, width):
        F.mse_loss(conv(x), target).backward()
    F.mse_loss(plain(x), target).backward()
    torch.testing.assert_close(conv.weight.grad[:outputs, :reach], plain.weight.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(conv.bias.grad[:outputs], plain.bias.grad, rtol=1e-10, atol=1e-12)
    conv.weight.grad[:outputs, :reach] = 0
    conv.bias.grad[:outputs] = 0
    assert not conv.weight.grad.any() and not conv.bias.grad.any()
    assert plain.weight.grad.any()


def grouped_by_loops(x, conv, per_in, per_out, **fixed):
    """Each whole group of input channels by a convolution of its own; a single narrower group if there is none."""
    outputs = []
    for group in range(max(1, x.size(1) // per_in)):
        part, rows = x[:, group * per_in : (group + 1) * per_in], slice(group * per_out, (group + 1) * per_out)
        outputs.append(F.conv2d(part, conv.weight[rows, : part.size(1)], conv.bias[rows], **fixed))
    return torch.cat(outputs, 1)


GROUPED = [(32, 32, 4), (32, 64, 4), (64, 32, 16), (32, 64, 32), (16, 16, 16), (30, 20, 10)]


@pytest.mark.parametrize('kind', ['padded', 'strided', 'dilated'])
@pytest.mark.parametrize('inputs, outputs, groups', GROUPED)
def test_grouped_conv_runs_the_whole_groups_of_its_input(inputs, outputs, groups, kind):
    options = CONVS[kind]
    conv = SlimmableConv2d(inputs, outputs, groups=groups, **options)
    fixed = {key: options[key] for key in ('stride', 'padding', 'dilation') if key in options}
    per_in, per_out = inputs // groups, outputs // groups
    for channels in {1, per_in, per_in + 1, inputs // 2 + 1, inputs - 1, inputs}:
        x = torch.randn(2, channels, 7, 7)
        expected = grouped_by_loops(x, conv, per_in, per_out, **fixed)
        for width in (0.25, 1.0):  # its own width has no say
            with use_width(conv, width):
                torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-5)
                dense = to_dense(conv, width, example_input=x)
                assert torch.equal(dense(x), conv(x))
        dropped = channels > per_in and channels % per_in > 0
        assert type(dense) is (PrefixConv2d if dropped else nn.Conv2d)
        assert dense.out_channels == expected.size(1)


@pytest.mark.parametrize('inputs, outputs, groups', GROUPED)
def test_grouped_conv_at_full_width_equals_the_plain_one_bit_for_bit(inputs, outputs, groups):
    conv, plain = (kind(inputs, outputs, 3, groups=groups) for kind in (SlimmableConv2d, nn.Conv2d))
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, inputs, 7, 7)
    assert torch.equal(conv(x), plain(x))


def test_channels_that_fill_no_group_get_no_gradient():
    conv = SlimmableConv2d(32, 64, 3, groups=4)
    x = torch.randn(2, 20, 5, 5, requires_grad=True)
    conv(x).square().sum().backward()
    assert x.grad[:, :16].all() and not x.grad[:, 16:].any()
    assert conv.weight.grad[:32].all() and not conv.weight.grad[32:].any()


def test_conv_rounding_is_passed_on():
    conv = SlimmableConv2d(3, 50, 1, rounding='int')
    with use_width(conv, 0.37):
        assert conv(torch.randn(1, 3, 4, 4)).size(1) == 18
        assert to_dense(conv, 0.37).out_channels == 18
    with pytest.raises(ValueError, match="got 'floor'"):
        SlimmableConv2d(3, 50, 1, rounding='floor')


@pytest.mark.parametrize(
    'layer, shape',
    [
        (lambda: SlimmableConv2d(16, 8, 1), (1, 24, 4, 4)),
        (lambda: SlimmableConv2d(16, 16, 3, groups=16), (1, 24, 4, 4)),
        (lambda: SlimmableBatchNorm2d(16), (2, 24, 4, 4)),
        (lambda: SlimmableLinear(16, 8), (2, 24)),
    ],
)
def test_too_many_input_channels_are_refused(layer, shape):
    with pytest.raises(ValueError, match='has 16 input channels, got an input of 24'):
        layer()(torch.randn(shape))


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(4, 16), (2, 3, 8), (2, 32)])
def test_linear_reads_the_first_inputs_and_keeps_all_outputs(shape, bias):
    linear = SlimmableLinear(32, 24, bias=bias)
    x = torch.randn(shape)
    with use_width(linear, 0.25):
        y = linear(x)
    expected = sum(x[..., i : i + 1] * linear.weight[:, i] for i in range(shape[-1]))
    torch.testing.assert_close(y, expected + linear.bias if bias else expected)
    y.sum().backward()
    assert linear.weight.grad[:, : shape[-1]].any()
    assert not linear.weight.grad[:, shape[-1] :].any()


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('slim_in, slim_out', [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize('width', WIDTHS)
def test_linear_with_slim_ends_equals_the_full_one_on_a_masked_input(width, slim_in, slim_out, bias):
    linear = SlimmableLinear(48, 40, bias=bias, slim_in=slim_in, slim_out=slim_out)
    x = torch.randn(2, 3, 48)
    masked = x.clone()
    if slim_in:
        masked[..., slim_channels(48, width) :] = 0
    expected = F.linear(masked, linear.weight, linear.bias)
    expected = expected[..., : slim_channels(40, width)] if slim_out else expected
    with use_width(linear, width):
        y = linear(x)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    dense = to_dense(linear, width, example_input=x)
    assert type(dense) is (PrefixLinear if slim_in and width < 1 else nn.Linear)
    assert torch.equal(dense(x), y)


def test_linear_with_slim_ends_at_full_width_equals_the_plain_one_bit_for_bit():
    linear, plain = SlimmableLinear(48, 40, slim_in=True, slim_out=True), nn.Linear(48, 40)
    plain.load_state_dict(linear.state_dict())
    x = torch.randn(5, 48)
    assert torch.equal(linear(x), plain(x))


def test_layers_at_full_width_equal_the_plain_ones_bit_for_bit():
    x = torch.randn(4, 16, 6, 6)
    for slimmable, plain in (
        (SlimmableConv2d(16, 24, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)),
        (SlimmableBatchNorm2d(16), nn.BatchNorm2d(16)),
    ):
        plain.load_state_dict(slimmable.state_dict())
        assert torch.equal(slimmable(x), plain(x))


# Batch normalisation


def normalised_by_loops(x, weight, bias, eps):
    """Batch norm in training mode, channel by channel, from its definition."""
    out = torch.empty_like(x)
    for c in range(x.size(1)):
        values = x[:, c]
        mean = values.sum() / values.numel()
        variance = ((values - mean) ** 2).sum() / values.numel()
        out[:, c] = (values - mean) / (variance + eps) ** 0.5 * weight[c] + bias[c]
    return out


def filled_norm(channels=16):
    norm = SlimmableBatchNorm2d(channels).double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    return norm


@pytest.fixture
def calibrated():
    """Convolution and norm with statistics at 0.5 and 1.0."""
    net = nn.Sequential(SlimmableConv2d(3, 16, 3), SlimmableBatchNorm2d(16))
    calibrate_bn(net, [0.5, 1.0], [torch.randn(8, 3, 6, 6) for _ in range(3)])
    return net


@pytest.mark.parametrize('channels', [1, 8, 16])
def test_norm_in_training_normalises_by_the_batch_and_leaves_its_buffers_alone(channels):
    norm = filled_norm()
    before = copy.deepcopy(norm.state_dict())
    x = 3 * torch.randn(4, channels, 5, 5, dtype=torch.float64) + 2
    with use_width(norm, 0.5):
        y = norm(x)
    torch.testing.assert_close(y, normalised_by_loops(x, norm.weight, norm.bias, norm.eps), rtol=1e-9, atol=1e-12)
    after = norm.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_norm_gradient_outside_the_prefix_is_zero():
    norm = filled_norm()
    (norm(torch.randn(4, 8, 5, 5, dtype=torch.float64)) ** 3).sum().backward()
    for parameter in norm.parameters():
        assert parameter.grad[:8].all()
        assert not parameter.grad[8:].any()


def test_norm_without_affine_parameters_works():
    norm = SlimmableBatchNorm2d(16, affine=False).double()
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64)
    expected = normalised_by_loops(x, torch.ones(8), torch.zeros(8), norm.eps)
    torch.testing.assert_close(norm(x), expected, rtol=1e-9, atol=1e-12)


def test_norm_that_keeps_no_statistics_is_refused():
    with pytest.raises(ValueError, match='needs track_running_stats=True'):
        SlimmableBatchNorm2d(8, track_running_stats=False)


def test_statistics_of_each_width_survive_a_state_dict(calibrated):
    x = torch.randn(2, 3, 6, 6)
    state = copy.deepcopy(calibrated.state_dict())
    assert {'1.running_mean_0_5', '1.running_var_0_5', '1.running_mean', '1.running_var'} <= state.keys()
    fresh = nn.Sequential(SlimmableConv2d(3, 16, 3), SlimmableBatchNorm2d(16))
    fresh.load_state_dict(state, strict=True)
    assert fresh.state_dict().keys() == state.keys()
    assert all(torch.equal(fresh.state_dict()[name], state[name]) for name in state)
    for width in (0.5, 1.0):
        with use_width(calibrated.eval(), width), use_width(fresh.eval(), width):
            assert torch.equal(fresh(x), calibrated(x))
    mean, var = fresh[1].statistics(0.5)
    with use_width(fresh, 0.5):
        expected = F.batch_norm(fresh[0](x), mean, var, fresh[1].weight[:8], fresh[1].bias[:8], eps=fresh[1].eps)
        assert torch.equal(fresh(x), expected)


def test_statistics_of_two_widths_differ(calibrated):
    net = nn.Sequential(*calibrated, SlimmableConv2d(16, 16, 1), SlimmableBatchNorm2d(16))
    calibrate_bn(net, [0.5, 1.0], [torch.randn(8, 3, 6, 6)])
    half, full = net[3].statistics(0.5)[1], net[3].statistics(1.0)[1]
    assert half.shape == (8,) and full.shape == (16,)
    assert not torch.allclose(half, full[:8])


@pytest.mark.parametrize('width', [0.25, 0.75])
def test_evaluation_at_an_uncalibrated_width_names_the_command(calibrated, width):
    message = rf'no statistics for width {width} \(calibrated: 0.5, 1\).*us3l calibrate .* --widths {width}'
    with use_width(calibrated.eval(), width), pytest.raises(RuntimeError, match=message):
        calibrated(torch.randn(2, 3, 6, 6))


def test_evaluation_of_an_untrained_norm_is_refused_at_full_width_too():
    with pytest.raises(RuntimeError, match=r'no statistics for width 1 \(calibrated: none\)'):
        SlimmableBatchNorm2d(8).eval()(torch.randn(2, 8, 4, 4))


def test_statistics_are_forgotten_when_training_goes_on(calibrated):
    calibrated.train()(torch.randn(4, 3, 6, 6))
    assert not any('_0_5' in name for name in calibrated.state_dict())
    assert not calibrated[1].running_mean.any() and (calibrated[1].running_var == 1).all()
    for width in (0.5, 1.0):
        with use_width(calibrated.eval(), width), pytest.raises(RuntimeError, match='no statistics'):
            calibrated(torch.randn(4, 3, 6, 6))


def test_statistics_survive_evaluation_and_forward_passes_without_gradient(calibrated):
    before = copy.deepcopy(calibrated.state_dict())
    x = torch.randn(4, 3, 6, 6)
    calibrated.eval()(x)
    with torch.no_grad():
        calibrated.train()(x)
    after = calibrated.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize('with_counter', [True, False])
def test_state_dict_of_a_plain_norm_serves_full_width(with_counter):
    plain = nn.BatchNorm2d(16)
    for _ in range(3):
        plain(2 * torch.randn(8, 16, 4, 4) + 1)
    state = plain.state_dict()
    if not with_counter:  # written before torch 0.4.1
        del state['num_batches_tracked']
        del state._metadata
    norm = SlimmableBatchNorm2d(16)
    norm.load_state_dict(state, strict=True)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(norm.eval()(x), plain.eval()(x))
    with use_width(norm, 0.5), pytest.raises(RuntimeError, match=r'no statistics for width 0.5 \(calibrated: 1\)'):
        norm(x[:, :8])


def test_plain_norm_loads_the_state_dict_of_a_slimmable_one_calibrated_at_full_width():
    norm = SlimmableBatchNorm2d(16)
    calibrate_bn(norm, [1.0], [torch.randn(8, 16, 4, 4)])
    plain = nn.BatchNorm2d(16)
    plain.load_state_dict(norm.state_dict(), strict=True)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(norm.eval()(x), plain.eval()(x))


def test_initial_statistics_of_an_untrained_plain_norm_do_not_count():
    norm = SlimmableBatchNorm2d(16)
    norm.load_state_dict(nn.BatchNorm2d(16).state_dict())
    with pytest.raises(RuntimeError, match='no statistics for width 1'):
        norm.eval()(torch.randn(2, 16, 4, 4))


def test_loading_other_weights_drops_stale_statistics(calibrated):
    fresh = nn.Sequential(SlimmableConv2d(3, 16, 3), SlimmableBatchNorm2d(16))
    calibrated.load_state_dict(fresh.state_dict(), strict=True)
    assert calibrated.state_dict().keys() == fresh.state_dict().keys()
    for width in (0.5, 1.0):
        with use_width(calibrated.eval(), width), pytest.raises(RuntimeError, match='no statistics'):
            calibrated(torch.randn(2, 3, 6, 6))


def test_loading_half_of_a_widths_statistics_is_an_error(calibrated):
    state = calibrated.state_dict()
    del state['1.running_var_0_5']
    with pytest.raises(RuntimeError, match='running_var_0_5'):
        nn.Sequential(SlimmableConv2d(3, 16, 3), SlimmableBatchNorm2d(16)).load_state_dict(state, strict=True)


def test_copies_keep_statistics_of_their_own(calibrated):
    x = torch.randn(2, 3, 6, 6)
    twin = copy.deepcopy(calibrated).eval()
    with use_width(calibrated.eval(), 0.5):
        expected = calibrated(x)
    calibrated.train()(torch.randn(4, 3, 6, 6))  # forgets
    with use_width(twin, 0.5):
        assert torch.equal(twin(x), expected)


class Slices(TorchFunctionMode):
    """Counts the slices that are taken of tensors."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.Tensor.__getitem__, torch.Tensor.narrow)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('conv', [dict(), dict(groups=4), dict(padding=1, padding_mode='reflect')])
def test_whole_inputs_are_not_sliced(conv):
    """PyTorch 2.6 would spend a backward on each."""
    layer, linear = SlimmableConv2d(8, 8, 3, **conv), SlimmableLinear(8, 4)
    with Slices() as slices:
        linear(layer(torch.randn(2, 8, 5, 5)).mean((2, 3)))
        assert slices.count == 0
        SlimmableConv2d(8, 8, 3, groups=4)(torch.randn(2, 7, 5, 5))  # three groups of two
        assert slices.count == 3  # of the input, the weights and the bias
