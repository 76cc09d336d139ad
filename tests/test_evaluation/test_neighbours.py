"""Neighbours and maps of features, against scikit-learn and loops."""

import sys

import numpy as np
import pytest
import torch

from us3l_mm.evaluation.activation_map import class_activation
from us3l_mm.evaluation.embedding import embed
from us3l_mm.evaluation.neighbours import neighbour_overlap, other_neighbours, planar_agreement

sklearn_neighbours = pytest.importorskip('sklearn.neighbors')


def test_neighbours_are_those_of_scikit_learn():
    torch.manual_seed(0)
    features = torch.randn(50, 6, dtype=torch.double)
    model = sklearn_neighbours.NearestNeighbors(n_neighbors=7, metric='cosine').fit(features)
    np.testing.assert_array_equal(other_neighbours(features, 7), model.kneighbors(return_distance=False))


def test_an_image_is_never_its_own_neighbour_among_equal_ones():
    found = other_neighbours(torch.ones(9, 3), 4)
    assert found.shape == (9, 4)
    assert all(i not in row and len(set(row)) == 4 for i, row in enumerate(found.tolist()))
    with pytest.raises(ValueError, match='4 neighbours of each image need more than 4 images, got 4'):
        other_neighbours(torch.ones(4, 3), 4)


def test_overlap_is_that_of_sets():
    first, second = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[3, 1, 7], [7, 8, 9]])
    expected = [len({*a} & {*b}) / 3 for a, b in zip(first.tolist(), second.tolist())]
    assert neighbour_overlap(first, second).tolist() == pytest.approx(expected)


def test_agreement_counts_nearest_points():
    points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 3.0], [5.0, 4.0]])
    assert planar_agreement(points, torch.tensor([0, 0, 0, 1, 1])) == pytest.approx(80)


@pytest.mark.slow
def test_clusters_lie_apart_in_a_map_that_repeats():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    features = torch.randn(40, 8, generator=generator) + 20 * labels[:, None]
    points = embed(features, 'tsne')
    np.testing.assert_array_equal(points, embed(features, 'tsne'))
    assert points.shape == (40, 2) and planar_agreement(torch.from_numpy(points), labels) == 100


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ImportError, match='pip install umap-learn; or take --method tsne'):
        embed(torch.randn(8, 2), 'umap')


def test_activation_is_the_head_at_each_position_and_its_mean_the_logit():
    torch.manual_seed(0)
    maps, head = torch.randn(2, 5, 3, 4), torch.nn.Linear(5, 6)
    found = class_activation(maps, head.weight.detach())
    for n, y, x in np.ndindex(2, 3, 4):
        torch.testing.assert_close(found[n, :, y, x], head.weight @ maps[n, :, y, x])
    torch.testing.assert_close(found.mean(dim=(2, 3)) + head.bias, head(maps.mean(dim=(2, 3))))
    with pytest.raises(
        ValueError, match=r'need feature maps \(N, C, H, W\), got shape \(2, 5\); a vision transformer has none'
    ):
        class_activation(torch.randn(2, 5), head.weight)
