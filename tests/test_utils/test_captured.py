"""Captured functions replay what they ran, for each kind of inputs; whole trainings are in test_graphs.py."""

import numpy as np
import pytest
import torch
from torch import nn

from recorded_graph import record
from us3l_mm.utils import captured as module
from us3l_mm.utils.captured import Captured


class Affine:
    """Counts how often Python goes through it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, values, factor):
        self.calls += 1
        return values * factor, dict(total=values + factor)


def test_first_call_runs_second_captures_and_all_further_ones_replay():
    function, captured = Affine(), Captured(capture=record)
    found = [captured('key', function, torch.full((2, 3), float(i)), torch.tensor(i + 1.0)) for i in range(5)]
    assert function.calls == 2
    for i, (product, rest) in enumerate(found):  # earlier results are their own
        assert torch.equal(product, torch.full((2, 3), i * (i + 1.0)))
        assert torch.equal(rest['total'], torch.full((2, 3), i + i + 1.0))


@pytest.mark.parametrize(
    'other',
    [torch.ones(3, 3), torch.ones(2, 3, dtype=torch.float64), torch.ones(3, 2).T],
    ids=['shape', 'type', 'stride'],
)
def test_each_kind_of_inputs_has_a_graph(other):
    function, captured = Affine(), Captured(capture=record)
    for _ in range(4):
        for values in (torch.ones(2, 3), other):
            product, _ = captured('key', function, values, torch.tensor(2.0))
            assert torch.equal(product, 2 * values) and product.dtype == values.dtype
    assert function.calls == 4


def test_numbers_and_modes_are_not_mixed_up():
    net = nn.Linear(2, 2)
    captured = Captured(net, record)
    for _ in range(4):
        for factor in (1.0, 2.0):
            for training in (True, False):
                net.train(training)
                found = captured('key', lambda x, by: x * by + net.training, torch.ones(2), factor)
                assert found.tolist() == [factor + training] * 2


def test_inputs_that_are_no_keys_are_refused():
    with pytest.raises(TypeError, match='CUDA graphs take tensors, numbers and text as inputs, got array'):
        Captured(capture=record)('key', Affine(), torch.ones(2), np.ones(2))


def test_many_kinds_are_not_captured_without_end(monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    function, captured = Affine(), Captured(capture=record)
    for _ in range(3):
        for size in range(1, module.MOST + 4):
            assert captured('key', function, torch.ones(size), torch.tensor(3.0))[0].sum() == 3 * size
    assert function.calls == 2 * module.MOST + 3 * 3
    assert len(said) == 1 and 'give batches one size' in said[0]


def test_gradients_are_added_to_those_of_ordinary_runs():
    net = nn.Linear(2, 1, bias=False)
    captured = Captured(net, record)

    def backward(x):
        net(x).sum().backward()

    inputs = [torch.tensor([[1.0, float(i)]]) for i in range(9)]
    for first in range(0, 9, 3):  # each time three gradients, summed
        for x in inputs[first : first + 3]:
            captured('key', backward, x)
        assert torch.equal(net.weight.grad, sum(inputs[first : first + 3]))
        net.zero_grad()


@pytest.mark.gpu
def test_gpu_replays():
    function, captured = Affine(), Captured()
    for i in range(5):
        values, factor = torch.randn(64, 64, device='cuda'), torch.tensor(float(i), device='cuda')
        product, rest = captured('key', function, values, factor)
        assert torch.equal(product, values * factor) and torch.equal(rest['total'], values + factor)
    assert function.calls == 2
