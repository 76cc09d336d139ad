"""Calibration of batch-norm statistics, against plain nets with ``momentum=None`` run over the same batches."""

import copy

import pytest
import torch
from torch import nn

from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, SlimmableLinear, calibrate_bn, slim_channels, use_width

WIDTHS = [1.0, 0.6, 0.25]


class Net(nn.Module):
    """Two convolutions, a residual branch, dropout and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = SlimmableConv2d(3, 32, 3, padding=1), SlimmableBatchNorm2d(32)
        self.conv2, self.bn2 = SlimmableConv2d(32, 32, 3, padding=1), SlimmableBatchNorm2d(32, eps=1e-3)
        self.dropout = nn.Dropout(0.5)
        self.plain_norm = nn.BatchNorm1d(8)
        self.fc = SlimmableLinear(32, 8)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = x + self.bn2(self.conv2(self.dropout(x)))
        return self.plain_norm(self.fc(x.mean((2, 3))))


def plain_net(net, width):
    """Layers of plain torch with the sliced weights, and a forward in training mode but for dropout."""
    c = slim_channels(32, width)
    layers = nn.ModuleDict(
        dict(
            conv1=nn.Conv2d(3, c, 3, padding=1),
            bn1=nn.BatchNorm2d(c, momentum=None),
            conv2=nn.Conv2d(c, c, 3, padding=1),
            bn2=nn.BatchNorm2d(c, eps=1e-3, momentum=None),
        )
    )
    for name, layer in layers.items():
        for key, parameter in layer.named_parameters():
            full = getattr(getattr(net, name), key).data
            parameter.data = full[tuple(slice(size) for size in parameter.shape)].clone()
    return layers


def run_plain(layers, x):
    x = layers['bn1'](layers['conv1'](x)).relu()
    return x + layers['bn2'](layers['conv2'](x))


@pytest.fixture
def batches():
    return [torch.randn(n, 3, 6, 6) + n / 4 for n in (8, 5, 2, 8)]  # uneven, shifted


@pytest.fixture
def net():
    net = Net()
    for norm in (net.bn1, net.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return net


def test_statistics_equal_those_of_a_plain_net_with_cumulative_momentum(net, batches):
    assert calibrate_bn(net, WIDTHS, batches) == len(batches)
    for width in WIDTHS:
        plain = plain_net(net, width).train()
        with torch.no_grad():
            for batch in batches:
                run_plain(plain, batch)
        for name in ('bn1', 'bn2'):
            mean, var = getattr(net, name).statistics(width)
            torch.testing.assert_close(mean, plain[name].running_mean, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(var, plain[name].running_var, rtol=1e-5, atol=1e-6)


def test_features_equal_those_of_the_plain_net_in_evaluation(net, batches):
    calibrate_bn(net, WIDTHS, batches)
    net.eval()
    seen = []
    net.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for width in WIDTHS:
        plain = plain_net(net, width).train()
        with torch.no_grad():
            for batch in batches:
                run_plain(plain, batch)
        with use_width(net, width):
            net(batches[0])
        torch.testing.assert_close(seen.pop(), run_plain(plain.eval(), batches[0]).mean((2, 3)), rtol=1e-5, atol=1e-5)


def test_widths_do_not_depend_on_each_other_or_on_their_order(net, batches):
    twin = copy.deepcopy(net)
    calibrate_bn(net, [0.25, 1.0, 0.6], batches)
    for width in WIDTHS:
        calibrate_bn(twin, [width], batches)
    state, separate = net.state_dict(), twin.state_dict()
    assert state.keys() == separate.keys()
    assert all(torch.equal(state[name], separate[name]) for name in state)


def test_calibrating_again_replaces_the_statistics(net, batches):
    calibrate_bn(net, WIDTHS, batches)
    calibrate_bn(net, [0.6], batches[:1])
    twin = copy.deepcopy(net)
    calibrate_bn(twin, WIDTHS, batches[:1])
    assert torch.equal(net.bn2.statistics(0.6)[0], twin.bn2.statistics(0.6)[0])
    assert not torch.equal(net.bn2.statistics(0.25)[0], twin.bn2.statistics(0.25)[0])  # kept from before


def test_everything_else_is_as_before(net, batches):
    net.train()
    net.fc.eval()
    net.bn2.eval()
    net.bn1.weight.requires_grad_(False)
    modes = {name: module.training for name, module in net.named_modules()}
    before = copy.deepcopy(net.state_dict())
    calibrate_bn(net, [0.6, 0.25], iter(batches))
    assert modes == {name: module.training for name, module in net.named_modules()}
    assert all(layer.width == 1.0 for layer in (net.conv1, net.bn1, net.fc))
    assert not net.bn1.weight.requires_grad and net.bn2.weight.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)  # plain norm and full width included
    assert len(after) == len(before) + 2 * 2 * 2


def test_calibration_draws_no_random_numbers(net, batches):
    before = torch.get_rng_state()
    calibrate_bn(net, [0.25], batches)  # dropout does not drop
    assert torch.equal(torch.get_rng_state(), before)


def interrupted(batches):
    yield from batches[:2]
    raise KeyboardInterrupt


@pytest.mark.parametrize('earlier', [[], WIDTHS], ids=['fresh', 'calibrated before'])
def test_interrupted_calibration_keeps_nothing(net, batches, earlier):
    fresh = copy.deepcopy(net.state_dict())
    if earlier:
        calibrate_bn(net, earlier, batches)
    net.eval()
    with pytest.raises(KeyboardInterrupt):
        calibrate_bn(net, WIDTHS, interrupted(batches))
    assert not any(module.training for module in net.modules())
    state = net.state_dict()
    assert state.keys() == fresh.keys()
    assert all(torch.equal(state[name], fresh[name]) for name in fresh)
    for width in WIDTHS:
        with use_width(net, width), pytest.raises(RuntimeError, match='no statistics'):
            net(batches[0])


def test_interruption_spares_the_widths_that_were_not_being_measured(net, batches):
    calibrate_bn(net, [0.6], batches)
    before = [tensor.clone() for tensor in net.bn2.statistics(0.6)]
    with pytest.raises(KeyboardInterrupt):
        calibrate_bn(net, [0.25], interrupted(batches))
    assert all(torch.equal(*pair) for pair in zip(before, net.bn2.statistics(0.6)))


def test_training_after_an_interrupted_calibration_keeps_no_statistics(net, batches):
    with pytest.raises(KeyboardInterrupt):
        calibrate_bn(net, [1.0], interrupted(batches))
    net.train()(batches[0])
    assert not net.bn1.running_mean.any()


def test_batch_of_one_image_is_refused(net, batches):
    with pytest.raises(ValueError, match='at least 2 images a batch, batch 2 has 1'):
        calibrate_bn(net, [0.25], [batches[0], batches[0][:1]])
    with use_width(net.eval(), 0.25), pytest.raises(RuntimeError, match='no statistics'):
        net(batches[0])


def test_no_batch_is_refused(net):
    with pytest.raises(ValueError, match='no batch of images'):
        calibrate_bn(net, [0.25], [])


def test_nothing_to_calibrate_is_refused(net, batches):
    with pytest.raises(ValueError, match='widths must be a list of 1 or more items'):
        calibrate_bn(net, [], batches)
    with pytest.raises(ValueError, match='widths must name no width twice'):
        calibrate_bn(net, [0.25, 0.6, 0.25], batches)
    with pytest.raises(ValueError, match='Sequential has no slimmable batch norm'):
        calibrate_bn(nn.Sequential(SlimmableConv2d(3, 8, 1), nn.BatchNorm2d(8)), [0.5], batches)
    with pytest.raises(ValueError, match='each width of widths must be in'):
        calibrate_bn(net, [1.5], batches)


def test_norm_that_no_batch_reaches_is_not_calibrated(batches):
    net = Net()
    net.spare = SlimmableBatchNorm2d(8)
    calibrate_bn(net, [1.0], batches)
    with pytest.raises(RuntimeError, match='no statistics'):
        net.spare.eval()(torch.randn(2, 8, 4, 4))
