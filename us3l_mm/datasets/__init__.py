"""Data sets and loading of images; :mod:`us3l_mm.datasets.custom_voc` needs mmdet, so only the registry imports it."""

from .class_folders import ClassFolders, refuse_unknown
from .digit_photos import DigitPhotos
from .digits import Digits
from .image_bytes import IMAGE_EXTENSIONS
from .in_memory import InMemory, take_batch
from .load_image import BadImageError, LoadImageFromFile, find_loaders, read_image

__all__ = [
    'IMAGE_EXTENSIONS',
    'BadImageError',
    'ClassFolders',
    'DigitPhotos',
    'Digits',
    'InMemory',
    'LoadImageFromFile',
    'find_loaders',
    'read_image',
    'refuse_unknown',
    'take_batch',
]
