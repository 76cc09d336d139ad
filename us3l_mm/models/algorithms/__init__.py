"""Self-supervised algorithms."""

from .seed import SEED
from .teacher import MomentumTeacher
from .us3l import US3L, feature_std

__all__ = ['SEED', 'US3L', 'MomentumTeacher', 'feature_std']
