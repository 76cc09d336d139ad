"""Width as a scope."""

import copy

import pytest
import torch
from torch import nn

from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, use_width


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


@pytest.mark.parametrize('width, error', [(0, ValueError), (1.5, ValueError), ('1', TypeError), (True, TypeError)])
def test_bad_width_changes_nothing(width, error):
    net = make_net()
    with pytest.raises(error, match='width must be'), use_width(net, width):
        pass
    assert widths_of(net) == [1.0] * 3
