"""Self-supervised algorithms."""

from .us3l import US3L

__all__ = ['US3L']
