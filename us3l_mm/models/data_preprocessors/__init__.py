"""Data preprocessors."""

from .batched_views import BatchedViewsPreprocessor

__all__ = ['BatchedViewsPreprocessor']
