"""Hue shifts against an independent wrap-around, and the names under which mmcv offers them."""

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.image import photometric
from PIL import Image

from us3l_mm.compat.numpy2 import adjust_hue

FACTORS = [-0.5, -0.499, -0.1, -0.003, 0.0, 0.003, 0.1, 0.25, 0.5, np.float32(-0.2), np.float64(0.3)]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def shift(hue, factor):
    """Truncate towards zero, then add modulo 256, one pixel at a time."""
    steps = int(factor * 255)
    return np.array([[(int(value) + steps) % 256 for value in row] for row in hue], dtype=np.uint8)


@pytest.mark.parametrize('factor', FACTORS)
def test_hue_shift_wraps_around_with_cv2(image, factor):
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] = shift(hsv[..., 0], factor)
    np.testing.assert_array_equal(mmcv.adjust_hue(image, factor, 'cv2'), cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL))


@pytest.mark.parametrize('factor', FACTORS)
def test_hue_shift_wraps_around_with_pillow(image, factor):
    hue, *rest = Image.fromarray(np.ascontiguousarray(image[..., ::-1])).convert('HSV').split()
    shifted = Image.fromarray(shift(np.array(hue), factor))
    expected = np.array(Image.merge('HSV', (shifted, *rest)).convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(mmcv.adjust_hue(image, factor, 'pillow'), expected)


def test_every_name_is_the_same_function():
    assert mmcv.adjust_hue is mmcv.image.adjust_hue is photometric.adjust_hue


@pytest.mark.skipif(np.__version__ >= '2', reason='NumPy 1 is the reference')
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_patch_changes_nothing_with_numpy_1(image, backend):
    # The whole range in steps finer than one hue value.
    for factor in np.linspace(-0.5, 0.5, 1021):
        expected = photometric.adjust_hue(image, factor, backend)
        np.testing.assert_array_equal(adjust_hue(photometric.adjust_hue)(image, factor, backend), expected)


@pytest.mark.parametrize('factor', [-0.51, 0.7, float('nan')])
def test_factor_out_of_range_is_still_refused(image, factor):
    with pytest.raises(ValueError, match='hue_factor'):
        mmcv.adjust_hue(image, factor)


def test_color_jitter_of_mmpretrain_runs(image):
    from mmpretrain.datasets.transforms import ColorJitter

    np.random.seed(0)
    jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5)
    for _ in range(10):
        assert jitter(dict(img=image.copy()))['img'].shape == image.shape
