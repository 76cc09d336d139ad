"""Evaluate slimmable networks at several widths."""

from .accuracy_series import PROTOCOLS, Series, accuracy_series
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
from .run_folder import RunFolder, find_runs
from .temporal_consistency import mse_gradient, nce_gradient, tangent, temporal_consistency
from .temporal_consistency_hook import TemporalConsistencyHook
from .verdict import COLLAPSED, Verdict, judge, training_length
from .width_accuracy import WidthAccuracy

__all__ = [
    'COLLAPSED',
    'PROTOCOLS',
    'CostHook',
    'LinearHead',
    'MonitorHook',
    'RunFolder',
    'Series',
    'TemporalConsistencyHook',
    'Verdict',
    'WidthAccuracy',
    'accuracy_series',
    'alignment',
    'batch_features',
    'cached_features',
    'choose_l2',
    'effective_rank',
    'extract_features',
    'file_hash',
    'find_runs',
    'fit_linear_head',
    'frozen_rows',
    'judge',
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
    'training_length',
    'uniformity',
    'vote',
]
