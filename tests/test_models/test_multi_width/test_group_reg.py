"""Group regularisation, against autograd of a naive sum in float64."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from us3l_mm.models import GroupRegularizer


def slope_by_hand(progress, alpha, warmup):
    if progress <= warmup:
        return 0.0
    if progress >= 0.5:
        return alpha
    return alpha * (progress - warmup) / (0.5 - warmup)


def naive_penalty(parameters, coefficient, slope, num_groups=8):
    """Sum over channels of coefficient * (1 - a * i) * w^2, i the channel's bin."""
    total = 0.0
    for parameter in parameters:
        if parameter.dim() not in (1, 4):
            total = total + coefficient * (parameter**2).sum()
            continue
        per_bin = max(1, len(parameter) // num_groups)
        for channel, weights in enumerate(parameter):
            index = min(channel // per_bin, num_groups - 1)
            total = total + coefficient * (1 - slope * index) * (weights**2).sum()
    return total


def make_parameters(dtype=torch.float64):
    shapes = [(16, 3, 3, 3), (64, 16, 1, 1), (20, 4, 3, 3), (15,), (64,), (8,), (24, 64), (32, 1, 3, 3)]
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


@pytest.mark.parametrize('progress', [0.0, 0.1, 0.2, 0.3, 0.49, 0.5, 0.75, 1.0])
@pytest.mark.parametrize('warmup', [0.0, 0.2])
def test_value_and_gradient_match_autograd_of_the_naive_sum(progress, warmup):
    parameters = make_parameters()
    naive = naive_penalty(parameters, 3e-3, slope_by_hand(progress, 0.05, warmup))
    expected = torch.autograd.grad(naive, parameters)
    reg = GroupRegularizer(coefficient=3e-3, warmup=warmup)
    value = reg.penalty(parameters, progress)
    reg.add_gradient(parameters, progress)
    assert value.item() == pytest.approx(naive.item(), rel=1e-12)
    for parameter, gradient in zip(parameters, expected):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-15)


def test_gradient_is_added_to_what_is_there():
    parameters = make_parameters()
    before = [torch.randn_like(parameter) for parameter in parameters]
    for parameter, gradient in zip(parameters[::2], before[::2]):  # the others have none yet
        parameter.grad = gradient.clone()
    expected = torch.autograd.grad(naive_penalty(parameters, 5e-5, 0.05), parameters)
    GroupRegularizer().add_gradient(parameters, 0.6)
    for i, parameter in enumerate(parameters):
        wanted = expected[i] + before[i] if i % 2 == 0 else expected[i]
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-12, atol=1e-15)


def test_last_bin_takes_the_remainder():
    norm = nn.Parameter(torch.ones(21))  # 2 a bin, and 7 in the last
    GroupRegularizer(coefficient=0.5, alpha=0.1).add_gradient([norm], 1.0)
    bins = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6] + [7] * 7
    torch.testing.assert_close(norm.grad, torch.tensor([1 - 0.1 * i for i in bins]))


def test_fewer_than_eight_channels_get_a_bin_each():
    conv = nn.Parameter(torch.ones(5, 2, 1, 1))
    GroupRegularizer(coefficient=0.5, alpha=0.1).add_gradient([conv], 1.0)
    expected = torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6]).reshape(5, 1, 1, 1).expand(5, 2, 1, 1)
    torch.testing.assert_close(conv.grad, expected)


def test_bins_run_over_outputs_of_a_convolution_not_inputs():
    conv = nn.Parameter(torch.ones(8, 16, 3, 3))
    GroupRegularizer(coefficient=0.5, alpha=0.1).add_gradient([conv], 1.0)
    for i in range(8):
        torch.testing.assert_close(conv.grad[i], torch.full((16, 3, 3), 1 - 0.1 * i))


def test_linear_weights_have_plain_weight_decay():
    linear = nn.Linear(16, 8)
    GroupRegularizer(coefficient=0.05).add_gradient([linear.weight], 1.0)
    torch.testing.assert_close(linear.weight.grad, 0.1 * linear.weight.detach())


@pytest.mark.parametrize('progress', [0.0, 0.2, 1.0])
def test_linear_inputs_puts_the_inputs_of_linear_weights_into_bins(progress):
    weight = nn.Parameter(torch.randn(6, 20, dtype=torch.float64))  # bins of 2, the last of 6
    slope = slope_by_hand(progress, 0.05, 0.0)
    expected = torch.zeros_like(weight)
    for i in range(6):
        for j in range(20):
            expected[i, j] = 2 * 1e-3 * (1 - slope * min(j // 2, 7)) * weight[i, j].item()
    reg = GroupRegularizer(1e-3, linear_inputs=True)
    reg.add_gradient([weight], progress)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-12, atol=1e-15)
    assert reg.penalty([weight], progress).item() == pytest.approx((expected * weight / 2).sum().item())


def test_linear_inputs_changes_nothing_else():
    parameters = [p for p in make_parameters() if p.dim() != 2]
    GroupRegularizer(linear_inputs=True).add_gradient(parameters, 0.7)
    expected = torch.autograd.grad(naive_penalty(parameters, 5e-5, 0.05), parameters)
    for parameter, gradient in zip(parameters, expected):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize('alpha', [0.0, 0.05])
def test_at_the_start_it_is_the_weight_decay_that_it_replaces(alpha):
    """lambda is half of the weight decay, since the gradient of lambda w^2 is 2 lambda w."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    twin = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    twin.load_state_dict(net.state_dict())
    decay = torch.optim.SGD(twin.parameters(), lr=0.1, weight_decay=0.01)
    plain = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.randn(4, 3, 3, 3)
    for _ in range(3):
        for model, optimizer in ((net, plain), (twin, decay)):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            if model is net:
                GroupRegularizer(coefficient=0.005, alpha=alpha).add_gradient(list(net.parameters()), 0.0)
            optimizer.step()
    for a, b in zip(net.parameters(), twin.parameters()):
        torch.testing.assert_close(a, b)


def test_ramp():
    reg = GroupRegularizer(alpha=0.05, warmup=0.1)
    expected = {0.0: 0, 0.05: 0, 0.1: 0, 0.2: 0.0125, 0.3: 0.025, 0.4: 0.0375, 0.5: 0.05, 0.8: 0.05, 1.0: 0.05}
    assert {progress: reg.slope(progress) for progress in expected} == pytest.approx(expected)


def test_scale_multiplies_the_gradient():
    ours = make_parameters()
    scaled = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    reg = GroupRegularizer(coefficient=0.1)
    scaled[0].grad, ours[0].grad = torch.ones_like(scaled[0]), torch.ones_like(ours[0]) / 1024
    reg.add_gradient(ours, 0.4)
    reg.add_gradient(scaled, 0.4, torch.tensor(1024.0, dtype=torch.float64))
    for a, b in zip(ours, scaled):
        torch.testing.assert_close(b.grad, 1024 * a.grad, rtol=1e-12, atol=1e-12)


def test_one_regulariser_serves_other_sizes_and_types():
    """What it remembers of one call must not leak into the next."""
    reg = GroupRegularizer(coefficient=0.5, alpha=0.1)
    for dtype in (torch.float32, torch.float64):
        for progress in (0.25, 1.0):
            parameters = make_parameters(dtype)
            expected = torch.autograd.grad(naive_penalty(parameters, 0.5, reg.slope(progress)), parameters)
            reg.add_gradient(parameters, progress)
            for parameter, gradient in zip(parameters, expected):
                assert parameter.grad.dtype == dtype
                torch.testing.assert_close(parameter.grad, gradient)


def test_weights_themselves_and_graphs_stay_untouched():
    parameters = make_parameters()
    before = [parameter.detach().clone() for parameter in parameters]
    reg = GroupRegularizer()
    assert not reg.penalty(parameters, 0.7).requires_grad
    reg.add_gradient(parameters, 0.7)
    assert all(torch.equal(a, b) for a, b in zip(parameters, before))
    assert not any(parameter.grad.requires_grad for parameter in parameters)
    assert len({parameter.grad.data_ptr() for parameter in parameters}) == len(parameters)


class Lists(TorchDispatchMode):
    """Keeps the lists of each operation on lists, and the names of all others that are no views."""

    def __init__(self):
        super().__init__()
        self.lists, self.others = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name().startswith('aten::_foreach'):
            self.lists.append([arg for arg in args if isinstance(arg, (list, tuple))])
        elif not function.is_view:
            self.others.append(function.name())
        return function(*args, **(kwargs or {}))


def test_two_operations_on_lists_of_equal_shapes_add_the_gradient():
    """A GPU computes such lists by one launch; others tensor by tensor."""
    parameters = make_parameters()
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    reg = GroupRegularizer()
    reg.add_gradient(parameters, 0.3)  # makes what it remembers
    with Lists() as seen:
        reg.add_gradient(parameters, 0.4)
    assert seen.others == []
    assert [len(lists[0]) for lists in seen.lists] == [len(parameters), len(parameters) - 1]  # all but the linear one
    for lists in seen.lists:
        for tensors in zip(*lists, strict=True):
            assert len({(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors}) == 1


@pytest.mark.parametrize(
    'arguments', [dict(coefficient=-1), dict(num_groups=0), dict(alpha=0.2), dict(alpha=-0.1), dict(warmup=0.5)]
)
def test_arguments_out_of_range_are_refused(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f'{name} .*must be .*got .*{value}'):
        GroupRegularizer(**arguments)
