"""Measures of a representation against loops, NumPy and cases whose values are known."""

import math

import numpy as np
import pytest
import torch

from us3l_mm.evaluation import alignment, effective_rank, uniformity


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(7, 5, generator=generator) for _ in range(2)]


def unit(row):
    row = [float(value) for value in row]
    length = math.sqrt(sum(value**2 for value in row))
    return [value / length for value in row]


def squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(unit(a), unit(b)))


def test_alignment_equals_a_loop(pair):
    first, second = pair
    expected = sum(squared_distance(a, b) for a, b in zip(first, second)) / len(first)
    assert alignment(first, second).item() == pytest.approx(expected, rel=1e-5)
    assert alignment(first, 3 * first).item() == pytest.approx(0, abs=1e-6)
    assert alignment(first, -first).item() == pytest.approx(4, rel=1e-5)


def test_uniformity_equals_a_loop(pair):
    rows = pair[0]
    terms = [math.exp(-2 * squared_distance(rows[i], rows[j])) for i in range(7) for j in range(i)]
    assert uniformity(rows).item() == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-5)
    assert uniformity(torch.ones(6, 4)).item() == 0


def test_effective_rank_equals_numpy(pair):
    values = np.linalg.svd(pair[0].double().numpy(), compute_uv=False)
    share = values / values.sum() + 1e-7
    assert effective_rank(pair[0]).item() == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-10)


@pytest.mark.parametrize('rank', [1, 3, 8])
def test_effective_rank_counts_equal_directions(rank):
    features = torch.zeros(40, 16)
    features[torch.arange(40), torch.arange(40) % 8] = 1.0
    features[:, rank:] = 0
    assert effective_rank(features).item() == pytest.approx(rank, rel=1e-3)


def test_effective_rank_of_nothing_is_finite():
    assert effective_rank(torch.zeros(4, 3)).item() == pytest.approx(1, rel=1e-4)
