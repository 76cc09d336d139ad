"""Evaluate slimmable networks at several widths."""

from .features import extract_features
from .logged import last_logged
from .temporal_consistency import mse_gradient, nce_gradient, tangent, temporal_consistency
from .temporal_consistency_hook import TemporalConsistencyHook
from .width_accuracy import WidthAccuracy

__all__ = [
    'TemporalConsistencyHook',
    'WidthAccuracy',
    'extract_features',
    'last_logged',
    'mse_gradient',
    'nce_gradient',
    'tangent',
    'temporal_consistency',
]
