"""Data sets; :mod:`us3l_mm.datasets.custom_voc` needs mmdet and is imported by the registry alone."""

from .digits import Digits
from .in_memory import InMemory, take_batch

__all__ = ['Digits', 'InMemory', 'take_batch']
