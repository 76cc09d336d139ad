"""Hooks and data-loading functions."""

from .seed_hook import EpochSeedHook, seed_worker

__all__ = ['EpochSeedHook', 'seed_worker']
