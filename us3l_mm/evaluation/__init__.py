"""Evaluate slimmable networks at several widths."""

from .cost_hook import CostHook
from .features import extract_features
from .knn import knn_accuracy, knn_predict, nearest_neighbours, vote
from .linear_head import LinearHead, choose_l2, fit_linear_head
from .logged import last_logged
from .monitor import measure_widths
from .monitor_hook import MonitorHook
from .representation import alignment, effective_rank, uniformity
from .width_accuracy import WidthAccuracy

__all__ = [
    'CostHook',
    'LinearHead',
    'MonitorHook',
    'WidthAccuracy',
    'alignment',
    'choose_l2',
    'effective_rank',
    'extract_features',
    'fit_linear_head',
    'knn_accuracy',
    'knn_predict',
    'last_logged',
    'measure_widths',
    'nearest_neighbours',
    'uniformity',
    'vote',
]
