"""Captured functions replay what they ran, for each kind of inputs."""

import copy

import pytest
import torch

from builders import stand_in_graph
from us3l_mm.utils import cuda_graph
from us3l_mm.utils.cuda_graph import Captured


class Affine:
    """Counts how often Python goes through it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, values, factor):
        self.calls += 1
        return values * factor, values + factor


class Replays:
    """Graphs that run the function when captured, and count replays."""

    def __init__(self):
        self.captures = self.replays = 0

    def __call__(self, run):
        self.captures += 1
        results, replay = stand_in_graph(run)

        def count():
            self.replays += 1
            replay()

        return results, count


def test_first_call_runs_second_captures_and_all_further_ones_replay():
    graph = Replays()
    captured = Captured(Affine(), graph)
    found = [captured(torch.full((2, 3), float(i)), torch.tensor(i + 1.0)) for i in range(5)]
    assert (graph.captures, graph.replays) == (1, 4)
    for i, (product, total) in enumerate(found):  # earlier results are their own
        assert torch.equal(product, torch.full((2, 3), i * (i + 1.0)))
        assert torch.equal(total, torch.full((2, 3), i + i + 1.0))


@pytest.mark.parametrize(
    'other',
    [torch.ones(3, 3), torch.ones(2, 3, dtype=torch.float64), torch.ones(3, 2).T],
    ids=['shape', 'type', 'stride'],
)
def test_each_kind_of_inputs_has_a_graph(other):
    graph, factor = Replays(), torch.tensor(2.0)
    captured = Captured(Affine(), graph)
    for _ in range(3):
        for values in (torch.ones(2, 3), other):
            product, _ = captured(values, factor)
            assert torch.equal(product, 2 * values) and product.dtype == values.dtype
    assert (graph.captures, graph.replays) == (2, 4)


def test_many_kinds_are_not_captured_without_end():
    graph = Replays()
    captured = Captured(Affine(), graph)
    for _ in range(2):
        for size in range(1, cuda_graph.MOST + 4):
            assert captured(torch.ones(size), torch.tensor(3.0))[0].sum() == 3 * size
    assert graph.captures == cuda_graph.MOST


def test_copies_capture_for_themselves():
    graph = Replays()
    captured = Captured(Affine(), graph)
    for _ in range(2):
        captured(torch.ones(1), torch.ones(1))
    other = copy.deepcopy(captured)
    other(torch.ones(1), torch.ones(1))
    assert other.function is not captured.function
    assert other.graph.replays == graph.replays == 1


@pytest.mark.gpu
def test_gpu_replays():
    captured = Captured(Affine())
    for i in range(5):
        values, factor = torch.randn(64, 64, device='cuda'), torch.tensor(float(i), device='cuda')
        product, total = captured(values, factor)
        assert torch.equal(product, values * factor) and torch.equal(total, values + factor)
    assert captured.function.calls == 2
