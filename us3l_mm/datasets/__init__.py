"""Data sets and loading of images; :mod:`us3l_mm.datasets.custom_voc` needs mmdet, so only the registry imports it."""

from .class_folders import ClassFolders, refuse_unknown
from .digit_photos import DigitPhotos
from .digits import Digits
from .few_labels import FewLabels, draw_few, labels_of, parse_few
from .image_bytes import IMAGE_EXTENSIONS
from .in_memory import InMemory, take_batch
from .load_image import BadImageError, LoadImageFromFile, find_loaders, read_image
from .load_resized_crops import LoadResizedCrops

__all__ = [
    'IMAGE_EXTENSIONS',
    'BadImageError',
    'ClassFolders',
    'DigitPhotos',
    'Digits',
    'FewLabels',
    'InMemory',
    'LoadImageFromFile',
    'LoadResizedCrops',
    'draw_few',
    'find_loaders',
    'labels_of',
    'parse_few',
    'read_image',
    'refuse_unknown',
    'take_batch',
]
