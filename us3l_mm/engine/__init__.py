"""Hooks, data-loading functions and what the tools share."""

from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .deferred_log_hook import DeferredRuntimeInfoHook
from .load_config import load_config
from .seed_hook import EpochSeedHook, seed_worker
from .set_width import set_width

__all__ = [
    'BFloat16OptimWrapper',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'load_config',
    'seed_worker',
    'set_width',
]
