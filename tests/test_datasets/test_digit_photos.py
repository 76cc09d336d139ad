"""Digits in photographs, for classification: what is drawn, from which parts, and how they follow from the seed."""

import numpy as np
import pytest

from us3l_mm.datasets import DigitPhotos, digit_photos
from us3l_mm.registry import DATASETS


class NoJitter:
    """A generator whose crops keep their brightness."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def uniform(self, low, high):
        return {0.4: 1.0, -50: 0.0}[low]

    def __getattr__(self, name):
        return getattr(self.rng, name)


def images(**options):
    return [item['img'] for item in DigitPhotos(**options)]


def test_splits_share_no_digit_and_no_part_of_a_photograph(monkeypatch):
    both = [{digit.tobytes() for digit in digit_photos.load_digits(split)[0]} for split in ('train', 'test')]
    assert all(both) and not both[0] & both[1]

    column = np.broadcast_to(np.arange(640) * 255 / 640, (427, 640)).astype(np.uint8)
    photo = np.repeat(column[..., None], 3, axis=2)  # brightness tells the column
    monkeypatch.setattr(digit_photos, 'load_photos', lambda: [photo])
    seen = {}
    for split in ('train', 'test'):
        crops = [digit_photos.background(NoJitter(seed), split, 96) for seed in range(40)]
        seen[split] = (min(crop.min() for crop in crops), max(crop.max() for crop in crops))
    boundary = 0.6 * 255
    assert seen['train'][1] <= boundary <= seen['test'][0] + 1
    assert seen['train'][0] < 30 and seen['test'][1] > 225  # and all of the photograph is used


@pytest.mark.parametrize('height', [10, 16, 25, 36])
def test_digits_keep_their_shape(height):
    digits, _ = digit_photos.load_digits('train')
    for digit in digits[:20]:
        alpha = digit_photos.enlarge(digit, height)
        assert abs(alpha.shape[0] - height) <= 2
        rows, columns = np.nonzero(digit >= 0.3)
        expected = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
        assert abs(alpha.shape[1] / alpha.shape[0] - expected) < 0.3
        for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert edge.max() >= 0.3


def test_the_digit_stands_anywhere_and_is_brighter_than_a_black_photograph(monkeypatch):
    monkeypatch.setattr(
        digit_photos, 'background', lambda rng, split, size: np.zeros((size, size, 3)) + 7 * np.arange(3)
    )
    digits, labels = digit_photos.load_digits('test')
    corners, heights = set(), set()
    for item in DigitPhotos(split='test', count=60, size=32):
        assert item['img'].shape == (32, 32, 3) and item['img'].dtype == np.uint8
        assert (item['img'] == item['img'][..., :1]).all()  # grey, whatever the photograph
        ink = item['img'].max(axis=2) > 40
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        corners.add((rows[0], columns[0]))
        heights.add(np.ptp(rows) + 1)
        assert item['gt_label'] == labels[item['digit_idx']]
        # The digit that is told: its ink, shrunk to 8 x 8 blocks, is where that of the small original is.
        part = item['img'][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean(axis=2)
        small = digits[item['digit_idx']]
        inked = np.argwhere(small >= 0.3)
        small = small[inked[:, 0].min() : inked[:, 0].max() + 1, inked[:, 1].min() : inked[:, 1].max() + 1]
        shrunk = digit_photos.cv2.resize(part, small.shape[::-1], interpolation=digit_photos.cv2.INTER_AREA)
        assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.5
    assert len(corners) > 30
    assert min(heights) < 21 and max(heights) > 25


def test_an_image_depends_on_seed_split_size_and_index_alone():
    first = images(count=6)
    assert all((a == b).all() for a, b in zip(first, images(count=3)))
    np.random.seed(5)
    assert all((a == b).all() for a, b in zip(first, images(count=6)))
    for other in (images(count=6, seed=1), images(count=6, split='test')):
        assert not any((a == b).all() for a, b in zip(first, other))
    assert len({image.tobytes() for image in first}) == 6


def test_registry_and_pipeline():
    cfg = dict(type='us3l_mm.DigitPhotos', count=40, pipeline=[lambda item: item['gt_label']])
    dataset = DATASETS.build(cfg)
    assert set(dataset) <= set(range(10)) and len(set(dataset)) > 5
    assert dataset.metainfo['classes'] == tuple('0123456789')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(split='val'), "split must be one of .* got 'val'"),
        (dict(count=0), 'count must be .* got 0'),
        (dict(size=8), 'size must be .* got 8'),
        (dict(seed=-1), 'seed must be .* got -1'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DigitPhotos(**options)
