"""The digits data set, against scikit-learn's own arrays."""

import builtins
from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from us3l_mm.datasets import Digits
from us3l_mm.registry import DATASETS


@pytest.fixture(scope='module')
def places():
    """Place in scikit-learn's file of every image, all of which differ."""
    found = {np.round(image * 255 / 16).astype(np.uint8).tobytes(): i for i, image in enumerate(load_digits().images)}
    assert len(found) == 1797
    return found


def places_of(dataset, places):
    return [places[np.ascontiguousarray(item['img'][..., 0]).tobytes()] for item in dataset]


def test_splits_part_the_whole_set(places):
    train, test = places_of(Digits('train'), places), places_of(Digits('test'), places)
    assert (len(train), len(test)) == (1442, 355)
    assert sorted(train + test) == list(range(1797))


def test_test_split_is_a_fifth_of_each_class():
    whole = Counter(load_digits().target.tolist())
    counts = Counter(item['gt_label'] for item in Digits('test'))
    assert counts == {digit: count // 5 for digit, count in whole.items()}


def test_test_split_is_spread_over_the_file(places):
    """Neighbours in the file are by one hand, so a cut at the end would test on other writers."""
    test = np.array(places_of(Digits('test'), places))
    for start in range(0, 1797, 300):
        assert 30 < ((test >= start) & (test < start + 300)).sum() < 90


def test_images_and_labels_are_those_of_scikit_learn(places):
    labels = load_digits().target
    for item in Digits('train'):
        image = item['img']
        assert image.dtype == np.uint8 and image.shape == (8, 8, 3)
        assert (image == image[..., :1]).all()
        assert item['gt_label'] == labels[places[np.ascontiguousarray(image[..., 0]).tobytes()]]
        assert type(item['gt_label']) is int
    assert max(item['img'].max() for item in Digits('train')) == 255


def test_order_does_not_change(places):
    np.random.seed(1)
    first = places_of(Digits('train'), places)
    np.random.seed(2)
    assert places_of(Digits('train'), places) == first


def test_loading_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()
    Digits('train')
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize('split, per_class', [('train', 8), ('train', 1), ('train', 140), ('test', 34)])
def test_per_class_keeps_so_many_of_each(split, per_class, places):
    dataset = Digits(split, per_class=per_class)
    assert Counter(item['gt_label'] for item in dataset) == {digit: per_class for digit in range(10)}
    assert set(places_of(dataset, places)) <= set(places_of(Digits(split), places))


def test_smaller_subsets_are_parts_of_larger_ones(places):
    few, more = (set(places_of(Digits('train', per_class=n), places)) for n in (5, 20))
    assert few < more


@pytest.mark.parametrize('per_class, needed', [(0, 'a whole number'), (-1, 'a whole number'), (141, r'in \[1, 14\d\]')])
def test_per_class_out_of_range_is_refused(per_class, needed):
    with pytest.raises(ValueError, match=rf'per_class must be {needed}.* got {per_class}'):
        Digits('train', per_class=per_class)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split must be one of \('train', 'test'\), got 'val'"):
        Digits('val')


def test_registry_and_pipeline():
    cfg = dict(type='us3l_mm.Digits', split='test', per_class=2, pipeline=[lambda item: item['gt_label'] * 10])
    dataset = DATASETS.build(cfg)
    assert sorted(dataset) == [10 * digit for digit in range(10) for _ in range(2)]
    assert dataset.metainfo['classes'] == tuple('0123456789')


def test_missing_scikit_learn_is_named(monkeypatch):
    real = builtins.__import__

    def without_sklearn(name, *args, **kwargs):
        if name.startswith('sklearn'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without_sklearn)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        Digits('train')
