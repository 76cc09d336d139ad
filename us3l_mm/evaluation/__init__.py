"""Evaluation of networks of several widths."""

from .complexity import width_complexity
from .features import extract_features
from .width_accuracy import WidthAccuracy

__all__ = ['WidthAccuracy', 'extract_features', 'width_complexity']
