"""Handwritten digits pasted into photographs, both of which come with scikit-learn."""

import functools

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_choice, check_count

from .digits import Digits

# Fractions of the photographs' width: splits share neither digits nor pixels.
PARTS = {'train': (0.0, 0.6), 'test': (0.6, 1.0)}
_INK = 0.3  # least opacity that counts as ink


@functools.cache
def load_photos() -> list[np.ndarray]:
    """Load two photographs, uint8 of shape (427, 640, 3), RGB; not to be written to."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def load_digits(split: str) -> tuple[list[np.ndarray], list[int]]:
    """Load digits as opacity maps in [0, 1] of shape (8, 8), and their labels."""
    items = Digits(split=split, pipeline=[]).load_data_list()
    return [item['img'][..., 0] / 255 for item in items], [item['gt_label'] for item in items]


def _ink_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Find the smallest box (x1, y1, x2, y2), ends excluded, around the ink of an opacity map."""
    rows, columns = np.flatnonzero((alpha >= _INK).any(axis=1)), np.flatnonzero((alpha >= _INK).any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def enlarge(digit: np.ndarray, height: int) -> np.ndarray:
    """Enlarge an opacity map so that its ink is ``height`` pixels high, and crop it to the ink."""
    digit = np.pad(digit, 1)  # room for the soft edge
    x1, y1, x2, y2 = _ink_box(cv2.resize(digit, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))
    scale = 8 * height / (y2 - y1)
    large = cv2.resize(digit, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    x1, y1, x2, y2 = _ink_box(large)
    return large[y1:y2, x1:x2]


def background(rng: np.random.Generator, split: str, size: int) -> np.ndarray:
    """Crop a part of a photograph, with random size, brightness and contrast.

    Args:
        rng (np.random.Generator): Generator of all draws.
        split (str): ``'train'`` or ``'test'``, whose parts of the photographs share no pixels.
        size (int): Height and width of the crop in pixels.

    Returns:
        np.ndarray: Crop, float of shape (size, size, 3), in [0, 255].
    """
    photos = load_photos()
    photo, (left, right) = photos[rng.integers(len(photos))], PARTS[split]
    region = photo[:, round(left * photo.shape[1]) : round(right * photo.shape[1])]
    side = int(rng.integers(size, min(2 * size, *region.shape[:2]) + 1))
    y, x = rng.integers(0, region.shape[0] - side + 1), rng.integers(0, region.shape[1] - side + 1)
    crop = cv2.resize(region[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return ((crop - 128.0) * rng.uniform(0.4, 1.0) + 128 + rng.uniform(-50, 50)).clip(0, 255)


def paste(rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray, x: int, y: int, contrast: float) -> None:
    """Blend a digit into an image.

    Args:
        rng (np.random.Generator): Generator of all draws.
        image (np.ndarray): Image (H, W, C) of C colours, in [0, 255]; changed in place.
        alpha (np.ndarray): Opacity map of the digit.
        x (int): Column of its left edge.
        y (int): Row of its upper edge.
        contrast (float): How much brighter it is than what is behind it; the other way round where it would leave
            [0, 255].
    """
    patch = image[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    local = patch.mean()
    if not 0 <= local + contrast <= 255:
        contrast = -contrast
    colour = (local + contrast + rng.uniform(-15, 15, size=image.shape[2])).clip(0, 255)
    opacity = rng.uniform(0.85, 1.0) * alpha[..., None]
    patch[:] = (1 - opacity) * patch + opacity * colour


@DATASETS.register_module()
class DigitPhotos(BaseDataset):
    """Grey images of one handwritten digit each, anywhere in a darkened crop of a photograph.

    Position, scale, brightness and background vary, so that it is harder than :class:`Digits`; it needs no download
    either. Colour would tell the images apart without a look at the digits. Images are uint8 (size, size, 3). Image i
    depends on ``split``, ``size``, ``seed`` and i only. The splits share neither digits nor pixels of the photographs;
    a digit stands in several images.

    Args:
        split (str): ``'train'`` or ``'test'``.
        count (int): Images, at most a million. Defaults to 3000.
        size (int): Height and width in pixels, from 16 to 160. A digit's ink is six to nine tenths of it high.
            Defaults to 16.
        seed (int): Seed of all draws. Defaults to 0.
        **kwargs: As for :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If an option is out of its range.

    Source: the digits of :class:`Digits`; "china" and "flower" of scikit-learn's sample images.
    """

    METAINFO = {'classes': Digits.METAINFO['classes'], 'dataset_type': 'digit_photos'}

    def __init__(self, split: str = 'train', count: int = 3000, size: int = 16, seed: int = 0, **kwargs) -> None:
        self.split = check_choice('split', split, tuple(PARTS))
        self.count = check_count('count', count, most=10**6)
        self.size = check_count('size', size, least=16, most=160)
        self.seed = check_count('seed', seed, least=0)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Make all images."""
        digits, labels = load_digits(self.split)
        return [self._compose(index, digits, labels) for index in range(self.count)]

    def _compose(self, index: int, digits: list[np.ndarray], labels: list[int]) -> dict:
        rng = np.random.default_rng([self.seed, list(PARTS).index(self.split), index])
        image = background(rng, self.split, self.size).mean(axis=2, keepdims=True) * 0.3  # all digits are brighter
        chosen = int(rng.integers(len(digits)))
        alpha = enlarge(digits[chosen], int(rng.integers(round(0.6 * self.size), round(0.9 * self.size))))
        alpha = alpha[: self.size, : self.size]
        height, width = alpha.shape
        x, y = int(rng.integers(0, self.size - width + 1)), int(rng.integers(0, self.size - height + 1))
        paste(rng, image, alpha, x, y, contrast=rng.uniform(90, 170))
        image = np.repeat(image.round().astype(np.uint8), 3, axis=2)
        return dict(img=image, gt_label=labels[chosen], digit_idx=chosen)
