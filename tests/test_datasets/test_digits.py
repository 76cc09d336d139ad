"""The digits data set."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from us3l_mm.datasets import Digits
from us3l_mm.registry import DATASETS


@pytest.fixture(scope='module')
def splits():
    return {split: [dict(item) for item in Digits(split)] for split in ('train', 'test')}


def test_splits_part_the_whole_set(splits):
    indices = {split: [item['sample_idx'] for item in items] for split, items in splits.items()}
    train, test = set(Digits('train')[i]['sample_idx'] for i in range(0)), None
    train, test = own_indices(Digits('train')), own_indices(Digits('test'))
    assert len(train) == 1438 and len(test) == 359
    assert sorted(train + test) == list(range(1797))
    assert indices.keys() == {'train', 'test'}


def own_indices(dataset):
    """Places in scikit-learn's file, found by comparing images (BaseDataset overwrites sample_idx)."""
    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    places = {}
    for place, image in enumerate(images):
        places.setdefault(image.tobytes(), []).append(place)
    return [places[np.ascontiguousarray(item['img'][..., 0]).tobytes()].pop(0) for item in dataset]
