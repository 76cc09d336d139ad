"""Data sets."""

from .custom_voc import CustomVOC
from .digits import Digits

__all__ = ['CustomVOC', 'Digits']
