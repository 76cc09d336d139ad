"""Evaluate slimmable networks at several widths."""

from .accuracy_series import PROTOCOLS, Series, accuracy_series
from .feature_files import cached_features, file_hash
from .features import batch_features, extract_features, pooled_features
from .frozen import frozen_rows, probe_widths, spread
from .knn import knn_accuracy, knn_predict, nearest_neighbours, vote
from .linear_head import LinearHead, choose_l2, fit_linear_head
from .logged import last_logged
from .run_folder import RunFolder, find_runs
from .verdict import COLLAPSED, Verdict, judge, training_length
from .width_accuracy import WidthAccuracy

__all__ = [
    'COLLAPSED',
    'PROTOCOLS',
    'LinearHead',
    'RunFolder',
    'Series',
    'Verdict',
    'WidthAccuracy',
    'accuracy_series',
    'batch_features',
    'cached_features',
    'choose_l2',
    'extract_features',
    'file_hash',
    'find_runs',
    'fit_linear_head',
    'frozen_rows',
    'judge',
    'knn_accuracy',
    'knn_predict',
    'last_logged',
    'nearest_neighbours',
    'pooled_features',
    'probe_widths',
    'spread',
    'training_length',
    'vote',
]
