"""Evaluate slimmable networks at several widths."""

from .features import extract_features
from .logged import last_logged
from .width_accuracy import WidthAccuracy

__all__ = ['WidthAccuracy', 'extract_features', 'last_logged']
