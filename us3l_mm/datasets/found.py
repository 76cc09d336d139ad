"""What data sets of detection look at before they believe an annotation, and how they tell what they found."""

import logging
import os.path as osp
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log
from PIL import ExifTags, Image

from .image_bytes import SIDEWAYS
from .load_image import read_image

# What becomes of boxes that nothing can be learnt from.
UNUSABLE_BOXES = (
    'boxes whose maximum is below their minimum, left out',
    'boxes without area, left out',
    'boxes outside the image, left out',
    'boxes of less than a pixel, left out',
)


class Findings:
    """What is odd in a file of annotations, told in one warning with counts and first names.

    Args:
        source (str): The file.

    Attributes:
        found (dict[str, list[tuple[str, str]]]): Names of images or annotations with a detail that may be empty, by
            what was found.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: dict[str, list[tuple[str, str]]] = {}

    def add(self, what: str, name: str, detail: str = '') -> None:
        """Count one finding, ``what``, in the image or annotation ``name``."""
        self.found.setdefault(what, []).append((name, detail))

    def warn(self) -> None:
        """Log all counts, if there are any."""
        if self.found:
            told = []
            for what, items in self.found.items():
                names = [f'{name} ({detail})' if detail else name for name, detail in items]
                told.append(f'{len(names)} {what}, such as {first_names(names)}')
            print_log(f'{self.source}: {"; ".join(told)}', 'current', logging.WARNING)


def first_names(names: Iterable[str]) -> str:
    """Join the first three different names."""
    return ', '.join(list(dict.fromkeys(names))[:3])


class FaultsError(ValueError):
    """Faults of an annotation file, or of files that it names; the message has the first three.

    Args:
        source (str): The annotation file.
        faults (Sequence[str]): All faults.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__(
            f'{source}: faults to be put right in the files, {len(faults)} in all: {"; ".join(faults[:3])}'
        )


def refuse(source: str, faults: Sequence[str]) -> None:
    """Raise FaultsError if there are any faults."""
    if faults:
        raise FaultsError(source, faults)


def image_size(path: str) -> tuple[int, int]:
    """Read height and width that an image has once it is loaded, that is turned upright by its EXIF data.

    Only the header is read, of JPEG and PNG files even if they are turned.

    Args:
        path (str): Image file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image that can be read.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'no image file {path}')
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
            width, height = image.size
            if turned and image.format not in ('JPEG', 'PNG'):  # of some kinds Pillow's size is turned already
                height, width = read_image(path).shape[:2]
            elif turned:
                height, width = width, height
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        raise ValueError(f'cannot read the image {path}: {error}') from error
    return height, width


def cut_box(box: Sequence[float], height: float, width: float, findings: Findings, name: str) -> list[float] | None:
    """Cut a box to its image.

    Args:
        box (Sequence[float]): x1, y1, x2, y2 in pixels.
        height (float): Height of the image in pixels.
        width (float): Width of the image in pixels.
        findings (Findings): Where to count what is odd.
        name (str): Name of the image.

    Returns:
        list[float] | None: The box, or None if nothing is left of it.
    """
    x1, y1, x2, y2 = box
    corners = f'{x1:g}, {y1:g}, {x2:g}, {y2:g}'
    inside = [max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)]
    if x1 > x2 or y1 > y2:
        findings.add(UNUSABLE_BOXES[0], name, corners)
    elif x1 == x2 or y1 == y2:
        findings.add(UNUSABLE_BOXES[1], name, corners)
    elif inside[0] >= inside[2] or inside[1] >= inside[3]:
        findings.add(UNUSABLE_BOXES[2], name, corners)
    else:
        if max(abs(a - b) for a, b in zip(inside, box)) > 1:  # 1 is a box counted from 0 instead of 1
            findings.add('boxes beyond the image, cut to it', name, corners)
        return inside
    return None
