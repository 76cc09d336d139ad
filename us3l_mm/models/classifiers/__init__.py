"""Classifiers."""

from .dense_classifier import dense_classifier
from .linear_probe import LinearProbe
from .slimmable_classifier import SlimmableClassifier

__all__ = ['LinearProbe', 'SlimmableClassifier', 'dense_classifier']
