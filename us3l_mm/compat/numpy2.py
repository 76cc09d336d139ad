"""Make mmcv's ``adjust_hue``, which mmpretrain's ColorJitter calls, work with NumPy 2.

It computes ``np.uint8(hue_factor * 255)``. For a negative factor NumPy 1 wraps the value around, and NumPy 2 raises
OverflowError.

Obsolete with an mmcv that adds the shift modulo 256: none yet (mmcv 2.2.0).
"""

import functools

import numpy as np


class _WrappedHue(float):
    """A hue factor whose product with 255 is wrapped around to an integer in [0, 255]."""

    def __mul__(self, scale: float) -> int:
        # NumPy 1 truncates towards zero and then wraps around, as C does.
        return int(float(self) * scale) % 256


def adjust_hue(original):
    """Wrap mmcv's ``adjust_hue`` (img, hue_factor, backend) so that negative factors act as with NumPy 1."""

    @functools.wraps(original)
    def wrapper(img: np.ndarray, hue_factor: float, *args, **kwargs) -> np.ndarray:
        return original(img, _WrappedHue(hue_factor), *args, **kwargs)

    return wrapper


def apply() -> bool:
    """Replace ``adjust_hue`` under each of its names in mmcv, with NumPy 2 or newer only."""
    if int(np.__version__.split('.')[0]) < 2:
        return False
    import mmcv
    from mmcv.image import photometric

    fixed = adjust_hue(photometric.adjust_hue)
    for module in (photometric, mmcv.image, mmcv):
        module.adjust_hue = fixed
    return True
