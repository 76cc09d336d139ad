"""Self-supervised algorithms."""

from .seed import SEED
from .us3l import US3L

__all__ = ['SEED', 'US3L']
