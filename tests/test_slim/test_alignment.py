"""Which nets are, at each width, the full net with channels zeroed."""

import pytest
import torch
from torch import nn

from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, SlimmableLayer
from us3l_mm.slim.alignment import is_aligned, output_tensors, outputs_close


class Net(nn.Module):
    """Two branches of which a third layer sees what ``join`` makes."""

    def __init__(self, join, channels=16):
        super().__init__()
        self.a, self.b = (SlimmableConv2d(3, 16, 3, padding=1) for _ in range(2))
        self.norm, self.c = SlimmableBatchNorm2d(16), SlimmableConv2d(channels, 32, 1)
        self.join = join

    def forward(self, x):
        return self.c(self.join(self.norm(self.a(x)), self.b(x)).relu())


class Parts(Net):
    """Gives a tensor and a pair."""

    def forward(self, x):
        return self.a(x), (self.b(x), super().forward(x))


def shuffled(a, b):
    """As ShuffleNet: channel i of one group beside channel i of the other."""
    return (a + b).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


NETS = {
    'sum': (lambda: Net(lambda a, b: a + b), True),
    'product': (lambda: Net(lambda a, b: a * b.sigmoid()), True),
    'several outputs': (lambda: Parts(lambda a, b: a + b), True),
    'concatenation': (lambda: Net(lambda a, b: torch.cat([a, b], 1), channels=32), False),
    'shuffle': (lambda: Net(shuffled), False),
    'reversal': (lambda: Net(lambda a, b: (a + b).flip(1)), False),
    'several outputs, reversal': (lambda: Parts(lambda a, b: (a + b).flip(1)), False),
    'mean over channels': (lambda: Net(lambda a, b: a + b.mean(1, keepdim=True)), False),
}


@pytest.mark.parametrize('width', [0.5, 0.25])
@pytest.mark.parametrize('name', NETS)
def test_verdict(name, width):
    build, expected = NETS[name]
    net = build().double()
    assert is_aligned(net, torch.randn(4, 3, 6, 6).double(), width) == expected


def test_nothing_is_left_behind():
    net = Net(lambda a, b: a + b).double()
    is_aligned(net, torch.randn(4, 3, 6, 6).double(), 0.5)
    net.join = None  # fails after the first layers
    with pytest.raises(TypeError):
        is_aligned(net, torch.randn(4, 3, 6, 6).double(), 0.5)
    assert all(layer.width == 1.0 for layer in net.modules() if isinstance(layer, SlimmableLayer))
    assert not any(layer._forward_hooks for layer in net.modules())


def test_tensors_of_nested_outputs():
    a, b, c = (torch.full((1,), float(i)) for i in range(3))
    assert [float(t) for t in output_tensors([a, (b, [c])])] == [0, 1, 2] and output_tensors(()) == []
    assert [float(t) for t in output_tensors(dict(x=[a], y=dict(z=b)))] == [0, 1]


def test_outputs_are_equal_but_for_rounding():
    x = torch.randn(50, dtype=torch.float64)
    for scale in (1e-6, 1, 1e6):  # rounding is relative to the largest value
        assert outputs_close([scale * x * (1 + 1e-9)], [scale * x])
        assert not outputs_close([scale * x * (1 + 1e-5)], [scale * x])
    assert not outputs_close([x], [x, x]) and not outputs_close([x[:1]], [x]) and outputs_close([], [])
