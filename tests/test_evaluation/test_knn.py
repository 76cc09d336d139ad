"""Weighted nearest neighbours, against scikit-learn's classifier with the same weights."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from us3l_mm.evaluation import knn, knn_accuracy, knn_predict, nearest_neighbours

TRAIN = 1000


@pytest.fixture(scope='module')
def digits():
    """Noisy digits, so that neighbours disagree: features (1797, 64) and labels."""
    features, labels = load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(scale=8, size=features.shape)
    return torch.from_numpy(features + noise), torch.from_numpy(labels)


@pytest.mark.parametrize('chunk', [100, 8192])
@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (20, 0.07), (200, 0.07), (20, 1.0)])
def test_predictions_are_those_of_scikit_learn(digits, monkeypatch, k, temperature, chunk):
    monkeypatch.setattr(knn, '_CHUNK', chunk)
    features, labels = digits
    train, test = features[:TRAIN], features[TRAIN:]
    theirs = KNeighborsClassifier(k, metric='cosine', weights=lambda distance: np.exp((1 - distance) / temperature))
    theirs.fit(train.numpy(), labels[:TRAIN].numpy())
    ours = knn_predict(train, labels[:TRAIN], test, k, temperature)
    assert ours.tolist() == theirs.predict(test.numpy()).tolist()
    accuracy = knn_accuracy(train, labels[:TRAIN], test, labels[TRAIN:], k, temperature)
    assert accuracy == pytest.approx(100 * theirs.score(test.numpy(), labels[TRAIN:].numpy()))
    assert 40 < accuracy < 100


def test_weights_decide_against_the_majority():
    train = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])
    labels, test = torch.tensor([3, 1, 1]), torch.tensor([[2.0, 0.0]])
    assert knn_predict(train, labels, test, 3).tolist() == [3]
    assert knn_predict(train, labels, test, 3, temperature=10).tolist() == [1]


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(ValueError, match='k must be at most the number of training images, 3, got 4'):
        nearest_neighbours(torch.randn(3, 2), torch.randn(1, 2), 4)
    with pytest.raises(ValueError, match=r'temperature must be in \(0, inf\)'):
        knn_predict(torch.randn(3, 2), torch.tensor([0, 1, 2]), torch.randn(1, 2), 1, temperature=0)
