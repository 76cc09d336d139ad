"""Evaluate slimmable networks at several widths."""

from .features import extract_features
from .knn import knn_accuracy, knn_predict, nearest_neighbours, vote
from .linear_head import LinearHead, choose_l2, fit_linear_head
from .logged import last_logged
from .width_accuracy import WidthAccuracy

__all__ = [
    'LinearHead',
    'WidthAccuracy',
    'choose_l2',
    'extract_features',
    'fit_linear_head',
    'knn_accuracy',
    'knn_predict',
    'last_logged',
    'nearest_neighbours',
    'vote',
]
