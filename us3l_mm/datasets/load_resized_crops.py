"""Crops of an image file for a training, from no more of its pixels than they need."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmpretrain.datasets import RandomResizedCrop
from torch.nn.functional import interpolate

from us3l_mm.registry import TRANSFORMS
from us3l_mm.slim.options import check_count, check_flag, check_range, check_size

from .image_bytes import REDUCTIONS, decode_image, decode_reduced, upright_jpeg_size
from .load_image import LoadImageFromFile, decode_file

_Size = tuple[int, int]
_Box = tuple[int, int, int, int]  # top, left, height, width


@TRANSFORMS.register_module()
class LoadResizedCrops(LoadImageFromFile, RandomResizedCrop):
    """Load an image and cut random crops out of it: ``LoadImageFromFile`` and ``RandomResizedCrop``, but faster.

    Boxes are drawn before the file is decoded, by mmpretrain's ``RandomResizedCrop``. Of a JPEG whose boxes are all at
    least 2, 4 or 8 times as large as the crops, libjpeg decodes a half, quarter or eighth of its height and width, once
    for all crops; edges of the boxes then lie at the nearest pixel of the reduced image. Other images are decoded in
    full. Crops are resized bilinearly with antialiasing by torch, which differs from Pillow's result by one level.

    It sets ``img``, a list of ``num_views`` crops as ``MultiView`` gives it, or one crop; ``img_shape``, the size of a
    crop; and ``ori_shape``. Images are BGR, uint8 (height, width, 3). Bad files are treated as by the parent class.

    Args:
        scale (int or tuple[int, int]): Side of the crops, or height and width, in pixels.
        crop_ratio_range (tuple[float, float]): Area of a box as part of the image's. Defaults to (0.08, 1.0).
        aspect_ratio_range (tuple[float, float]): Width over height of a box. Defaults to (3/4, 4/3).
        num_views (int, optional): Number of crops in a list; None gives one crop, without a list. Defaults to None.
        reduce (bool): Whether large JPEGs may be decoded at a reduced size. Defaults to True.
        backend_args (dict, optional): As for :class:`LoadImageFromFile`.
        on_bad_image (str): As there.
        max_bad_images (int): As there.

    Raises:
        TypeError or ValueError: If an option has none of its values.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
        *,
        num_views: int | None = None,
        reduce: bool = True,
        backend_args: dict | None = None,
        on_bad_image: str = 'stop',
        max_bad_images: int = 10,
    ) -> None:
        LoadImageFromFile.__init__(
            self, backend_args=backend_args, on_bad_image=on_bad_image, max_bad_images=max_bad_images
        )
        RandomResizedCrop.__init__(
            self,
            check_size('scale', scale),
            check_range('crop_ratio_range', crop_ratio_range, '[0, 1]'),
            check_range('aspect_ratio_range', aspect_ratio_range, '[0.001, 1000]'),
        )
        self.num_views = None if num_views is None else check_count('num_views', num_views, most=100)
        self.reduce = check_flag('reduce', reduce)

    def load(self, path: str) -> dict[str, Any]:
        """Load the crops of an image file; see :meth:`LoadImageFromFile.load`."""
        crops, size = decode_file(path, self._cut, self.backend_args)
        return dict(img=crops if self.num_views else crops[0], img_shape=tuple(self.scale), ori_shape=size)

    def __repr__(self) -> str:
        return f'{RandomResizedCrop.__repr__(self)[:-1]}, num_views={self.num_views}, reduce={self.reduce})'

    def _cut(self, data: bytes) -> tuple[list[np.ndarray], _Size]:
        """Return crops of the image in ``data``, and its full size."""
        least = REDUCTIONS[0] * min(self.scale)  # of a box that can be reduced
        size, factor = upright_jpeg_size(data, least) if self.reduce else None, 1
        if size is not None:
            boxes = self._draw(size)
            factor = self._factor(boxes)
        image = decode_image(data) if factor == 1 else decode_reduced(data, factor)
        # Damaged EXIF data may mean another size to the decoder.
        if size is None or image.shape[:2] != tuple(-(-side // factor) for side in size):
            image, factor = image if factor == 1 else decode_image(data), 1
            size = image.shape[:2]
            boxes = self._draw(size)
        return [self._resize(image, box, factor) for box in boxes], size

    def _draw(self, size: _Size) -> list[_Box]:
        pixels = np.broadcast_to(np.uint8(0), size)  # nothing but their shape is looked at
        return [self.rand_crop_params(pixels) for _ in range(self.num_views or 1)]

    def _factor(self, boxes: list[_Box]) -> int:
        """Return the largest reduction by which all boxes remain at least as large as the crops."""
        least = min(min(height // self.scale[0], width // self.scale[1]) for _, _, height, width in boxes)
        return max((factor for factor in REDUCTIONS if factor <= least), default=1)

    def _resize(self, image: np.ndarray, box: _Box, factor: int) -> np.ndarray:
        """Cut a box of the full image out of the reduced one, and bring it to the size of the crops."""
        top, left, bottom, right = (
            (edge + factor // 2) // factor for edge in (box[0], box[1], box[0] + box[2], box[1] + box[3])
        )
        pixels = torch.from_numpy(image[top:bottom, left:right]).permute(2, 0, 1)[None]
        crop = interpolate(pixels, tuple(self.scale), mode='bilinear', antialias=True)
        return crop[0].permute(1, 2, 0).numpy()
