"""Classifiers."""

from .linear_probe import LinearProbe
from .slimmable_classifier import SlimmableClassifier

__all__ = ['LinearProbe', 'SlimmableClassifier']
