"""Data sets; :mod:`us3l_mm.datasets.custom_voc` needs mmdet, so only the registry imports it."""

from .digits import Digits
from .in_memory import InMemory, take_batch

__all__ = ['Digits', 'InMemory', 'take_batch']
