"""Width as a scope."""

import copy

import pytest
import torch
from mmpretrain.models.utils import LayerNorm2d
from torch import nn

from us3l_mm.slim import (
    SlimmableBatchNorm2d,
    SlimmableConv2d,
    SlimmableLayer,
    SlimmableLinear,
    switch_layers,
    use_width,
)


def make_net():
    return nn.Sequential(SlimmableConv2d(3, 16, 3), SlimmableBatchNorm2d(16), nn.ReLU(), SlimmableConv2d(16, 32, 3))


def widths_of(net):
    return [layer.width for layer in net if hasattr(layer, 'width')]


def test_width_is_in_force_inside_and_gone_outside():
    net = make_net()
    x = torch.randn(2, 3, 8, 8)
    with use_width(net, 0.5) as inside:
        assert inside is net
        assert net(x).size(1) == 16
    assert net(x).size(1) == 32


def test_only_slimmable_layers_are_touched():
    net = make_net()
    net[2].width = 'mine'
    with use_width(net, 0.5):
        assert widths_of(net) == [0.5, 0.5, 'mine', 0.5]
    assert 'width' not in net.__dict__


@pytest.mark.parametrize('width', [1.0, 0.5, 0.25])
def test_shared_weights_change_neither_outputs_nor_gradients(width):
    net = make_net().double().to(memory_format=torch.channels_last)
    layers = [layer for layer in net.modules() if isinstance(layer, SlimmableLayer)]
    views = [torch.randn(2, 3, 8, 8, dtype=torch.float64) for _ in range(2)]
    found = []
    for share in (False, True):
        net.zero_grad()
        with switch_layers(layers, [width] * len(layers), share=share):
            with torch.no_grad():
                net(views[0])  # what it slices must not stand in the way of gradients
            outputs = [net(view) for view in views]
            sum((i + 1) * output.square().sum() for i, output in enumerate(outputs)).backward()
        found.append((outputs, [parameter.grad for parameter in net.parameters()]))
    for plain, shared in zip(*found):
        for a, b in zip(plain, shared):
            torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)


def test_weights_are_sliced_once_in_a_block_that_shares_and_anew_in_the_next():
    conv = SlimmableConv2d(4, 16, 1)
    with switch_layers([conv], [0.5], share=True):
        weight = conv.active(4)[0]
        assert conv.active(4)[0] is weight and weight.shape[0] == 8 and weight.is_contiguous()
        with use_width(conv, 1.0):
            assert conv.active(4)[0].shape[0] == 16
        assert conv.active(3)[0].shape[:2] == (8, 3)
    assert conv.shared is None
    with torch.no_grad():
        conv.weight.add_(1)
    with switch_layers([conv], [0.5], share=True):
        torch.testing.assert_close(conv.active(4)[0], conv.weight[:8])


def test_scopes_nest():
    net = make_net()
    with use_width(net, 0.5):
        with use_width(net, 0.25):
            assert widths_of(net) == [0.25] * 3
        assert widths_of(net) == [0.5] * 3
    assert widths_of(net) == [1.0] * 3


def test_width_comes_back_after_an_exception():
    net = make_net()
    with use_width(net, 0.75):
        with pytest.raises(KeyError), use_width(net, 0.25):
            raise KeyError
        assert widths_of(net) == [0.75] * 3
    assert widths_of(net) == [1.0] * 3


def test_scope_of_a_part_leaves_the_rest_and_is_restored_layer_by_layer():
    net = make_net()
    with use_width(net[0], 0.25):
        with use_width(net, 0.5):
            pass
        assert widths_of(net) == [0.25, 1.0, 1.0]


def test_another_module_keeps_its_width():
    net = make_net()
    twin = copy.deepcopy(net)
    with use_width(net, 0.25):
        assert widths_of(twin) == [1.0] * 3


def test_width_is_no_part_of_the_state_dict():
    net = make_net()
    before = net.state_dict().keys()
    with use_width(net, 0.5):
        assert net.state_dict().keys() == before


def test_module_without_slimmable_layers_is_refused():
    message = 'Linear has no slimmable layer.*us3l_mm.SlimmableConv2d'
    with pytest.raises(ValueError, match=message), use_width(nn.Linear(2, 2), 0.5):
        pass


class ForeignConv(nn.Module):
    """Convolution of another library, no subclass of torch's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, 3, 3))


RIGID = {
    'Conv2d': lambda: nn.Conv2d(16, 16, 1),
    'BatchNorm2d': lambda: nn.BatchNorm2d(16),
    'SyncBatchNorm': lambda: nn.SyncBatchNorm(16),
    'InstanceNorm2d': lambda: nn.InstanceNorm2d(16),
    'GroupNorm': lambda: nn.GroupNorm(4, 16),
    'LayerNorm2d': lambda: LayerNorm2d(16),
    'PReLU': lambda: nn.PReLU(16),
    'ForeignConv': ForeignConv,
}


@pytest.mark.parametrize('kind', RIGID)
def test_layer_that_cannot_follow_is_named_on_entering_a_narrow_width(kind):
    net = nn.Sequential(*make_net()[:2], RIGID[kind](), make_net()[3])
    message = rf'Sequential cannot run at width 0.5: 1 of its layers .*: 2 \({kind}\)\. Build them with conv_cfg='
    with pytest.raises(ValueError, match=message), use_width(net, 0.5):
        pytest.fail('entered')
    assert [layer.width for layer in (net[0], net[1], net[3])] == [1.0] * 3
    with use_width(net, 1.0):
        pass


def test_layers_that_follow_any_width_are_allowed():
    projector = [SlimmableLinear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8)]
    net = nn.Sequential(*make_net(), nn.PReLU(), nn.Dropout(), nn.Flatten(), *projector)
    with use_width(net, 0.5):
        pass


def test_synchronised_norm_of_a_projector_is_allowed():
    """``sync_bn = 'torch'`` makes it of its BatchNorm1d; its linear layer keeps all outputs."""
    projector = nn.Sequential(SlimmableLinear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
    teacher = nn.Sequential(make_net(), nn.SyncBatchNorm.convert_sync_batchnorm(projector))
    with use_width(teacher, 0.5):
        pass


def test_plain_layers_in_front_see_all_channels():
    net = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), *make_net()[1:])
    with use_width(net, 0.5):
        pass


def test_parts_of_a_slimmable_layer_are_ignored():
    class Switch(SlimmableLayer, nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(8)

    for net in (Switch(), nn.Sequential(make_net(), Switch())):
        with use_width(net, 0.5):
            pass


@pytest.mark.parametrize('width, error', [(0, ValueError), (1.5, ValueError), ('1', TypeError), (True, TypeError)])
def test_bad_width_changes_nothing(width, error):
    net = make_net()
    with pytest.raises(error, match='width must be'), use_width(net, width):
        pass
    assert widths_of(net) == [1.0] * 3


def test_no_layers_can_be_switched():
    """A training step of a model whose only width is 1.0 may have none."""
    with switch_layers([], [], share=True):
        pass
