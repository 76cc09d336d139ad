"""Gradients of slices that a scope shares, against those of plain indexing."""

import copy
import gc
import weakref
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, SlimmableLayer, SlimmableLinear, switch_layers
from us3l_mm.slim.gradient_blocks import GradientBlocks


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(
        SlimmableConv2d(3, 12, 3, bias=False),
        SlimmableBatchNorm2d(12),
        SlimmableConv2d(12, 16, 3, groups=4),
        SlimmableConv2d(16, 10, 3),
        nn.Flatten(),
        SlimmableLinear(10 * 4, 6, slim_in=True, slim_out=True),
    )


def layers_of(net):
    return [layer for layer in net if isinstance(layer, SlimmableLayer)]


def gradients(net, share, passes, width=0.5):
    """Gradients of ``passes(loss)``, which goes backward, where ``loss()`` is a new forward pass."""
    net.zero_grad()
    layers = layers_of(net)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=net[0].weight.dtype)
    with switch_layers(layers, [width] * len(layers), share=share):
        passes(lambda: net(images).square().sum())
    return [parameter.grad for parameter in net.parameters()]


def once(loss):
    loss().backward()


def twice_through_the_same_graph(loss):
    found = loss()
    found.backward(retain_graph=True)
    found.backward()


def forward_again_after_backward(loss):
    loss().backward()
    with torch.autocast('cpu', torch.bfloat16):  # other slices, which no block has room for
        loss().backward()


def two_losses_with_gradients_of_their_own(loss):
    """As a hook does that compares gradients: none may be written over another."""
    a, b = loss(), loss() * 2
    a.backward(retain_graph=True)
    b.backward()


@pytest.mark.parametrize(
    'passes',
    [once, twice_through_the_same_graph, forward_again_after_backward, two_losses_with_gradients_of_their_own],
)
def test_gradients_are_those_of_plain_indexing(passes):
    net = make_net()
    expected = gradients(net, False, passes)
    got = gradients(net, True, passes)
    loose = dict(rtol=2e-2, atol=2e-2 * max(g.abs().max() for g in expected).item())  # bfloat16
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, **(loose if passes is forward_again_after_backward else {}))


def test_gradients_stay_as_they_are_when_others_are_made():
    """A gradient may lie in the block itself: neither a second pass nor the next scope writes there."""
    net = make_net()
    layers = layers_of(net)
    kept = []
    with switch_layers(layers, [0.5] * len(layers), share=True):
        loss = net(torch.ones(2, 3, 8, 8)).sum()
        for _ in range(2):
            kept.append(torch.autograd.grad(loss, net.parameters(), retain_graph=True))
    copies = [g.clone() for g in kept[0]]
    gradients(net, True, once)
    for first, second, same in zip(*kept, copies, strict=True):
        assert torch.equal(first, same) and torch.equal(second, same) and first.data_ptr() != second.data_ptr()


@pytest.mark.parametrize('frozen', ['0.weight', '1.bias', '2.weight', '2.bias', '5.weight'])
def test_frozen_parameters_have_no_gradient_and_the_others_theirs(frozen):
    net = make_net()
    net.get_parameter(frozen).requires_grad_(False)
    expected, got = gradients(net, False, once), gradients(net, True, once)
    names = [name for name, _ in net.named_parameters()]
    assert [name for name, gradient in zip(names, got) if gradient is None] == [frozen]
    part, _, kind = frozen.rpartition('.')
    with switch_layers(layers_of(net), [0.5] * 5, share=True):
        slices = dict(zip(('weight', 'bias'), net.get_submodule(part).sliced(4, 2)))
    assert not slices[kind].requires_grad
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_slice_that_nothing_uses_gets_no_gradient():
    conv = SlimmableConv2d(4, 16, 1)
    with switch_layers([conv], [0.5], share=True):
        _, bias, _ = conv.active(2)
        bias.sum().backward()
    assert conv.weight.grad is None and torch.equal(conv.bias.grad, torch.arange(16).lt(8).float())


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_gradients_have_the_layout_of_their_parameters_and_share_no_entry(memory_format, dtype):
    net = make_net().to(dtype=dtype, memory_format=memory_format)
    found = gradients(net, True, once)
    for parameter, gradient in zip(net.parameters(), found, strict=True):
        assert gradient.stride() == parameter.stride() and gradient.dtype == dtype
    for gradient in found:
        gradient.fill_(1)
    found[0].fill_(2)
    assert all((gradient == 1).all() for gradient in found[1:])


def test_parameters_in_a_part_of_a_larger_tensor():
    """As views with gaps, which a block has room for, too."""
    net = make_net()
    expected = gradients(net, True, once)
    conv = net[3]
    conv.weight = nn.Parameter(torch.zeros(10, 32, 3, 3)[:, ::2])
    conv.weight.data.copy_(make_net()[3].weight)
    assert not conv.weight.is_contiguous()
    for a, b in zip(gradients(net, True, once), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_slices_are_gone_at_the_end_of_their_scope():
    """Without the garbage collector, which does not find what only a graph of PyTorch holds together."""
    net = make_net()
    layers = layers_of(net)
    gc.disable()
    try:
        with switch_layers(layers, [0.5] * len(layers), share=True):
            net(torch.ones(2, 3, 8, 8)).sum().backward()
            kept = [weakref.ref(layers[0].shared), weakref.ref(layers[0].active(3)[0])]
            assert all(each() is not None for each in kept)
        assert all(each() is None for each in kept)
    finally:
        gc.enable()


def test_parameters_that_are_whole_may_be_replaced_in_a_scope():
    conv, x = SlimmableConv2d(4, 16, 1), torch.ones(1, 4, 2, 2)
    with switch_layers([conv], [1.0], share=True):
        conv(x)
        zeros = {name: torch.zeros_like(parameter) for name, parameter in conv.named_parameters()}
        assert not torch.func.functional_call(conv, zeros, (x,)).any()


def test_copies_of_a_layer_in_a_scope_share_nothing():
    conv = SlimmableConv2d(4, 16, 1)
    with switch_layers([conv], [0.5], share=True):
        conv(torch.ones(1, 4, 2, 2))
        other = copy.deepcopy(conv)
        assert other.shared is None and torch.equal(other.weight, conv.weight)


def test_blocks_are_let_go_of_when_all_their_places_are_taken():
    blocks, whole = GradientBlocks(), torch.ones(3, 5)
    places = [blocks.claim(whole) for _ in range(2)]
    first, second = map(blocks.zeros, places)
    block = weakref.ref(first._base)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr() and not first.any()
    assert not torch.equal(first.fill_(1), second) and not blocks.zeros(places[0]).any()  # another pass: its own
    late = blocks.zeros(blocks.claim(whole))
    assert late.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
    del first, second
    assert block() is None


def test_second_derivatives_are_refused():
    net = make_net()
    layers = layers_of(net)
    with switch_layers(layers, [0.5] * len(layers), share=True):
        loss = net(torch.ones(2, 3, 8, 8)).sum()
        with pytest.raises(RuntimeError, match='share=False'):
            torch.autograd.grad(loss, [net[0].weight], create_graph=True)


class Operations(TorchDispatchMode):
    """Counts the operations that compute or copy; views cost nothing."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function.overloadpacket)] += not function.is_view
        return function(*args, **(kwargs or {}))


def operations(net, views, autocast, images):
    """What forward and backward passes of so many views take together."""
    with Operations() as found:
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            loss = sum(net(images).float().mean() for _ in range(views))
        loss.backward()
    return found.counts


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('width', [1.0, 0.5])
def test_more_views_cost_what_they_cost_a_plain_network(width, autocast):
    """All that slicing adds, copies and casts among it, is once for all views, and nothing at full width."""
    if autocast and not hasattr(torch, 'get_autocast_dtype'):
        pytest.skip('casts are shared from PyTorch 2.4 on')

    def build(conv, norm, linear, a, b):
        return nn.Sequential(
            conv(3, a, 3), norm(a), conv(a, a, 3, groups=a // 4), norm(a), conv(a, b, 3), nn.Flatten(), linear(4 * b, 8)
        )

    def plain_norm(channels):
        return nn.BatchNorm2d(channels, track_running_stats=False)

    net = build(SlimmableConv2d, SlimmableBatchNorm2d, SlimmableLinear, 16, 32)
    plain = build(nn.Conv2d, plain_norm, nn.Linear, int(16 * width), int(32 * width))
    layers = [layer for layer in net if isinstance(layer, SlimmableLayer)]
    own, floor, images = [], [], torch.ones(2, 3, 8, 8)
    for views in (1, 2, 3):
        with switch_layers(layers, [width] * len(layers), share=True):
            own.append(operations(net, views, autocast, images))
        floor.append(operations(plain, views, autocast, images))
        for model in (net, plain):
            model.zero_grad()
    assert own[2] - own[1] == floor[2] - floor[1]
    added = own[0] - floor[0]
    assert own[1] - floor[1] == added and (width == 1.0) == (not added)


@pytest.mark.skipif(not hasattr(torch, 'get_autocast_dtype'), reason='casts are shared from PyTorch 2.4 on')
@pytest.mark.parametrize('count', [1, 5])
def test_slicing_costs_a_block_and_a_copy_a_layer(count):
    """In half precision: a copy takes the place of each cast, and only batch norms have one more than plain nets."""

    def build(conv, norm, channels):
        return nn.Sequential(
            *[nn.Sequential(conv(channels, channels, 1, bias=False), norm(channels)) for _ in range(count)]
        )

    net = build(SlimmableConv2d, SlimmableBatchNorm2d, 16)
    plain = build(nn.Conv2d, lambda channels: nn.BatchNorm2d(channels, track_running_stats=False), 8)
    layers = [layer for layer in net.modules() if isinstance(layer, SlimmableLayer)]
    found = []
    for model in (net, plain):
        with switch_layers(layers, [0.5] * len(layers), share=True):
            found.append(operations(model, 1, True, torch.ones(2, 8, 4, 4)))
    assert sum(found[0].values()) == sum(found[1].values()) + 1 + count
    assert (found[0] - found[1])['aten.zeros'] == 1
