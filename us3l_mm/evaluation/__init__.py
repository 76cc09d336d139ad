"""Evaluate slimmable networks at several widths."""

from .cost_hook import CostHook
from .feature_files import cached_features, file_hash
from .features import batch_features, extract_features, pooled_features
from .frozen import frozen_rows, probe_widths, spread
from .knn import knn_accuracy, knn_predict, nearest_neighbours, vote
from .linear_head import LinearHead, choose_l2, fit_linear_head
from .logged import last_logged
from .monitor import measure_widths
from .monitor_hook import MonitorHook
from .representation import alignment, effective_rank, uniformity
from .temporal_consistency import mse_gradient, nce_gradient, tangent, temporal_consistency
from .temporal_consistency_hook import TemporalConsistencyHook
from .width_accuracy import WidthAccuracy

__all__ = [
    'CostHook',
    'LinearHead',
    'MonitorHook',
    'TemporalConsistencyHook',
    'WidthAccuracy',
    'alignment',
    'batch_features',
    'cached_features',
    'choose_l2',
    'effective_rank',
    'extract_features',
    'file_hash',
    'fit_linear_head',
    'frozen_rows',
    'knn_accuracy',
    'knn_predict',
    'last_logged',
    'measure_widths',
    'mse_gradient',
    'nce_gradient',
    'nearest_neighbours',
    'pooled_features',
    'probe_widths',
    'spread',
    'tangent',
    'temporal_consistency',
    'uniformity',
    'vote',
]
