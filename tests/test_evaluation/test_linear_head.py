"""The solved linear head, against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from us3l_mm.evaluation import LinearHead, choose_l2, fit_linear_head, linear_head


@pytest.fixture(scope='module')
def digits():
    """300 digits with a channel that is constant: features (300, 64) in float32, and labels."""
    features, labels = load_digits(return_X_y=True)
    return torch.from_numpy(features[:300]).float(), torch.from_numpy(labels[:300])


def theirs(features, labels, l2):
    return LogisticRegression(C=1 / (len(labels) * l2), tol=1e-10, max_iter=10000).fit(features, labels.numpy())


@pytest.mark.parametrize('l2', [1e-1, 1e-4])
@pytest.mark.parametrize(('chunk', 'tolerance', 'close'), [(128, 1e-8, 1e-6), (16384, linear_head._TOLERANCE, 1e-4)])
def test_head_is_that_of_scikit_learn(digits, monkeypatch, l2, chunk, tolerance, close):
    """As closely as one likes, and by what is usual to the fourth digit of every probability."""
    monkeypatch.setattr(linear_head, '_TOLERANCE', tolerance)
    monkeypatch.setattr(linear_head, '_CHUNK', chunk)
    monkeypatch.setattr(linear_head, '_IN_MEMORY', 0 if chunk == 128 else 2**28)
    features, labels = digits
    scaler = StandardScaler().fit(features.double().numpy())
    expected = theirs(scaler.transform(features.double().numpy()), labels, l2)
    head = fit_linear_head(features, labels, 10, l2)
    found = head.scores(features).softmax(dim=1).numpy()
    wanted = expected.predict_proba(scaler.transform(features.double().numpy()))
    np.testing.assert_allclose(found, wanted, atol=close)
    weight = head.weight.numpy() * scaler.scale_
    np.testing.assert_allclose(weight, expected.coef_, atol=tolerance / l2)  # what the gradient allows
    assert 0.9 < (found.argmax(axis=1) == labels.numpy()).mean() <= 1


def test_raw_features_give_the_head_of_raw_features(digits, monkeypatch):
    monkeypatch.setattr(linear_head, '_TOLERANCE', 1e-8)
    features, labels = digits
    scaled = features / 16
    expected = theirs(scaled.double().numpy(), labels, 1e-2)
    head = fit_linear_head(scaled, labels, 10, 1e-2, standardise=False)
    np.testing.assert_allclose(head.weight.numpy(), expected.coef_, atol=1e-4)
    np.testing.assert_allclose(
        head.bias - head.bias.mean(), expected.intercept_ - expected.intercept_.mean(), atol=1e-4
    )


def test_same_head_from_any_start_and_to_the_digit_from_the_same(digits):
    features, labels = digits
    head = fit_linear_head(features, labels, 10, 1e-3)
    again = fit_linear_head(features, labels, 10, 1e-3)
    assert torch.equal(head.weight, again.weight) and torch.equal(head.bias, again.bias)
    far = LinearHead(torch.randn(10, 64, dtype=torch.float64), torch.randn(10, dtype=torch.float64))
    moved = fit_linear_head(features, labels, 10, 1e-3, start=far)
    torch.testing.assert_close(moved.scores(features).softmax(1), head.scores(features).softmax(1), rtol=0, atol=1e-4)


def test_labels_that_do_not_fit_are_refused(digits):
    features, labels = digits
    with pytest.raises(ValueError, match=r'labels must be in \[0, 9\), as num_classes says, got 0 to 9'):
        fit_linear_head(features, labels, 9, 1e-3)
    with pytest.raises(ValueError, match=r'got \(300, 64\) and \(299,\)'):
        fit_linear_head(features, labels[1:], 10, 1e-3)
    with pytest.raises(ValueError, match='l2 must be in'):
        fit_linear_head(features, labels, 10, 0)


def test_a_head_that_is_not_found_in_time_warns(digits, monkeypatch, capfd):
    monkeypatch.setattr(linear_head, '_MAX_ITERS', 3)
    fit_linear_head(*digits, 10, 1e-4)
    out = capfd.readouterr()
    assert 'logistic regression with l2=0.0001 stopped at a gradient of' in out.out + out.err


def test_l2_is_the_best_on_held_out_images():
    """One channel tells the class, many are noise: hardly any regularisation is bad, and so is a lot."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(120) % 3
    features = torch.randn(120, 100, generator=generator)
    features[:, :3] += 1.5 * torch.eye(3)[labels]
    l2s = (1e3, 1.0, 1e-6)
    chosen = choose_l2(features, labels, 3, l2s, seed=1)
    held = linear_head.held_out(labels, 0.2, seed=1)
    assert [int((held & (labels == label)).sum()) for label in range(3)] == [8, 8, 8]
    accuracy = {}
    for l2 in l2s:
        scaler = StandardScaler().fit(features[~held].numpy())
        model = theirs(scaler.transform(features[~held].numpy()), labels[~held], l2)
        accuracy[l2] = model.score(scaler.transform(features[held].numpy()), labels[held].numpy())
    assert chosen == max(l2s, key=accuracy.get)
    assert len(set(accuracy.values())) > 1


def test_one_image_a_class_chooses_the_strongest():
    assert choose_l2(torch.randn(4, 8), torch.arange(4), 4) == max(linear_head.L2S)
