"""Rows of frozen features, against scikit-learn and independent counts."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from us3l_mm.datasets import draw_few
from us3l_mm.evaluation import choose_l2, frozen_rows
from us3l_mm.evaluation.probe import follow_names


@pytest.fixture(scope='module')
def digits():
    """Noisy digits as features of two widths: training and test split."""
    features, labels = load_digits(return_X_y=True)
    features = torch.from_numpy(features + np.random.default_rng(0).normal(scale=6, size=features.shape)).float()
    labels = torch.from_numpy(labels)
    return tuple(
        ({1.0: features[part], 0.5: features[part, ::2]}, labels[part]) for part in (slice(0, 300), slice(300, 700))
    )


@pytest.fixture(scope='module')
def rows(digits):
    return frozen_rows(*digits, few=('5', '10%'), seeds=2, topk=(1, 5))


def solved(train, labels, l2):
    scaler = StandardScaler().fit(train.double().numpy())
    model = LogisticRegression(C=1 / (len(labels) * l2), tol=1e-8, max_iter=10000)
    model.fit(scaler.transform(train.double().numpy()), labels.numpy())
    return lambda test: model.predict_proba(scaler.transform(test.double().numpy()))


def test_linear_heads_and_neighbours_are_those_of_scikit_learn(digits, rows):
    (train, labels), (test, truth) = digits
    assert [row['width'] for row in rows] == [1.0, 0.5]
    for row in rows:
        x, y = train[row['width']], test[row['width']]
        scores = solved(x, labels, row['l2'])(y)
        assert row['top1'] == pytest.approx(100 * (scores.argmax(axis=1) == truth.numpy()).mean())
        assert row['top5'] == pytest.approx(100 * top_k_accuracy_score(truth.numpy(), scores, k=5))
        assert row['mean_per_class'] == pytest.approx(100 * balanced_accuracy_score(truth, scores.argmax(axis=1)))
        for k in (20, 200):
            near = KNeighborsClassifier(k, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07))
            assert row[f'knn{k}'] == pytest.approx(100 * near.fit(x.numpy(), labels).score(y.numpy(), truth), abs=0.26)


def test_few_labels_are_mean_and_spread_of_the_draws(digits, rows):
    (train, labels), (test, truth) = digits
    for row, entry in ((rows[0], '5'), (rows[1], '10%')):
        values = []
        for seed in range(2):
            index = draw_few(labels, entry, seed)
            x = train[row['width']][index]
            scores = solved(x, labels[index], choose_l2(x, labels[index], 10))(test[row['width']])
            values.append(100 * (scores.argmax(axis=1) == truth.numpy()).mean())
        few = row['few'][entry]
        assert few['values'] == pytest.approx(values) and few['seeds'] == 2
        assert few['mean'] == pytest.approx(np.mean(values)) and few['std'] == pytest.approx(np.std(values, ddof=1))


def test_a_width_alone_gives_the_same_row_to_the_digit(digits, rows):
    (train, labels), (test, truth) = digits
    alone = frozen_rows(({0.5: train[0.5]}, labels), ({0.5: test[0.5]}, truth), few=('5', '10%'), seeds=2, topk=(1, 5))
    assert alone == [rows[1]]


def test_more_neighbours_than_images_are_left_out_and_said(digits, capfd):
    (train, labels), test = digits
    (row,) = frozen_rows(({0.5: train[0.5][:100]}, labels[:100]), ({0.5: test[0][0.5]}, test[1]))
    assert row['knn200'] is None and 10 < row['knn20'] < 100
    out = capfd.readouterr()
    assert '100 training images: k-NN of 200 neighbours is left out' in out.out + out.err


def test_labels_follow_the_names_of_classes():
    labels = torch.tensor([0, 1, 2, 0])
    assert follow_names(labels, ('a', 'b', 'c'), ('c', 'a', 'b', 'd')).tolist() == [1, 2, 0, 1]
    assert follow_names(labels, None, ('a', 'b', 'c')).tolist() == labels.tolist()
    assert follow_names(labels, ('b', 'b', 'x'), ('b', 'b', 'x')).tolist() == labels.tolist()  # ImageNet has two cranes
    with pytest.raises(ValueError, match='classes of the test split that training lacks: c'):
        follow_names(labels, ('a', 'b', 'c'), ('a', 'b'))
