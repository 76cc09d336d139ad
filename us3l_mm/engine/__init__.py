"""What mmengine runs: hooks, an optimizer wrapper and the seeding of data-loading workers."""

from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .check_invalid_loss_hook import CheckInvalidLossHook
from .check_loaded_hook import CheckLoadedHook
from .deferred_log_hook import DeferredRuntimeInfoHook
from .seed_hook import EpochSeedHook, seed_worker

__all__ = [
    'BFloat16OptimWrapper',
    'CheckInvalidLossHook',
    'CheckLoadedHook',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'seed_worker',
]
