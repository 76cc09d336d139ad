"""Evaluate slimmable networks at several widths."""

from .feature_files import cached_features, file_hash
from .features import batch_features, extract_features, pooled_features
from .frozen import frozen_rows, probe_widths, spread
from .knn import knn_accuracy, knn_predict, nearest_neighbours, vote
from .linear_head import LinearHead, choose_l2, fit_linear_head
from .logged import last_logged
from .width_accuracy import WidthAccuracy

__all__ = [
    'LinearHead',
    'WidthAccuracy',
    'batch_features',
    'cached_features',
    'choose_l2',
    'extract_features',
    'file_hash',
    'fit_linear_head',
    'frozen_rows',
    'knn_accuracy',
    'knn_predict',
    'last_logged',
    'nearest_neighbours',
    'pooled_features',
    'probe_widths',
    'spread',
    'vote',
]
