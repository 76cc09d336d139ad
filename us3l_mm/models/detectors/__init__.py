"""Detectors."""

from .slimmable_detector import SlimmableDetector

__all__ = ['SlimmableDetector']
