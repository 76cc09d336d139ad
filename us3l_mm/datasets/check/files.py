"""What files tell: whether images load and what is odd in them, what a folder holds besides, which are the same."""

import hashlib
import os
import os.path as osp
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpretrain.datasets import CustomDataset
from PIL import Image

from ..image_bytes import FORMATS, IMAGE_EXTENSIONS
from ..load_image import read_image

_LEAST_SIDE = 8  # pixels
_MOST_LONG = 10  # times as long as wide
_TAIL = 4096  # bytes that tell most files apart
OTHER_FILES = {
    'link': ('links to files that are not there', 'Put the files there, or remove the links'),
    'device': ('pipes, sockets or devices, left out', 'Remove them, or put image files in their place'),
    'outside': ('images outside the folders of the classes, left out', 'Move them into the folder of their class'),
    'extension': (
        'images of extensions that the data set leaves out',
        'Add the extensions to `extensions` of the data set; us3l_mm.datasets.IMAGE_EXTENSIONS lists all that load',
    ),
    'other': (
        f'files of other extensions than {", ".join(IMAGE_EXTENSIONS)}, left out',
        'If they are images, rename or convert them',
    ),
}


@dataclass
class Look:
    """What a look at an image file shows.

    Attributes:
        size (tuple[int, int]): Width and height in pixels, as it is loaded.
        grey (bool): Whether no pixel has a colour.
        odd (list[tuple[str, str]]): What is odd, in the plural, with what to do about it.
    """

    size: tuple[int, int]
    grey: bool
    odd: list[tuple[str, str]]


def look_at(path: str) -> Look:
    """Decode an image as a training does, and look for what may not be meant.

    Args:
        path (str): Image file.

    Raises:
        BadImageError: If it cannot be loaded.
    """
    pixels = read_image(path)  # (height, width, 3)
    height, width = pixels.shape[:2]
    odd = list(_odd_file(path))
    if min(height, width) < _LEAST_SIDE:
        odd.append(
            (f'images with a side under {_LEAST_SIDE} pixels', 'Remove them if they are thumbnails or leftovers')
        )
    elif max(height, width) > _MOST_LONG * min(height, width):
        odd.append((f'images over {_MOST_LONG} times as long as wide', 'Cut them: crops show little of them'))
    if (pixels == pixels[0, 0]).all():
        odd.append(('images of a single colour', 'Nothing is on them: remove them'))
    return Look((width, height), bool((pixels == pixels[..., :1]).all()), odd)


def _odd_file(path: str) -> Iterator[tuple[str, str]]:
    """Yield what is lost of a file when it becomes three channels of 8 bits."""
    with Image.open(path, formats=FORMATS) as image:
        if image.mode.startswith('I'):
            yield 'images of 16 bits, of which the upper 8 are taken', 'Scale their range to 8 bits if they look dark'
        if image.mode == 'CMYK':
            yield 'CMYK images, converted without their colour profile', 'Save them as RGB if their colours matter'
        if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # cameras add a preview to a JPEG
            yield 'files of several images, of which the first is taken', 'Split them if you want the others'
        if image.has_transparency_data and image.convert('RGBA').getextrema()[3][0] < 255:
            yield 'transparent images, blended on white', 'Blend them on a background of yours if white is wrong'


def left_out(dataset: Any) -> Iterator[tuple[str, str]]:
    """Yield files that a data set of folders leaves out, hidden ones aside, with their kind in ``OTHER_FILES``."""
    if not isinstance(dataset, CustomDataset) or dataset.ann_file:
        return
    for folder, _, names in os.walk(dataset.img_prefix, followlinks=True):
        for name in sorted(name for name in names if not name.startswith('.')):
            path = osp.join(folder, name)
            known = osp.splitext(name)[1].lower() in IMAGE_EXTENSIONS
            if not osp.exists(path):
                yield 'link', path
            elif not osp.isfile(path):
                yield 'device', path
            elif not dataset.is_valid_file(name):
                yield 'extension' if known else 'other', path
            elif dataset.with_label and osp.samefile(folder, dataset.img_prefix):
                yield 'outside', path


def alike(paths: Iterable[str], sampled: set[str]) -> list[list[str]]:
    """Group files of the same bytes, of which at least one is in the sample.

    All files are asked for their sizes, few are read: those whose size is that of a file in the sample.

    Args:
        paths (Iterable[str]): Files. Missing and empty ones are left out.
        sampled (set[str]): Those to find copies of.

    Returns:
        list[list[str]]: Groups of two files or more, in the order given.
    """
    groups = [[path for path in paths if osp.isfile(path) and osp.getsize(path)]]
    keys: tuple[Callable[[str], object], ...] = (osp.getsize, _tail, _digest)
    for key in keys:
        parts = []
        for group in groups:
            by_key: dict[object, list[str]] = {}
            for path in group:
                by_key.setdefault(key(path), []).append(path)
            parts += [part for part in by_key.values() if len(part) > 1 and not sampled.isdisjoint(part)]
        groups = parts
    return groups


def _tail(path: str) -> bytes:
    with open(path, 'rb') as file:
        file.seek(-min(_TAIL, osp.getsize(path)), os.SEEK_END)
        return file.read()


def _digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()
