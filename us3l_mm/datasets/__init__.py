"""Data sets."""

from .custom_voc import CustomVOC
from .digits import Digits
from .in_memory import InMemory, take_batch

__all__ = ['CustomVOC', 'Digits', 'InMemory', 'take_batch']
