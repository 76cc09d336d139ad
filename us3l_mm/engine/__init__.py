"""What mmengine runs: a Runner with its loops and hooks for trainings that lose nothing, and an optimizer wrapper."""

from .bad_images_hook import BadImagesHook
from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .check_data_hook import CheckDataHook
from .check_loaded_hook import CheckLoadedHook
from .checkpoint_hook import ResumableCheckpointHook
from .deferred_log_hook import DeferredRuntimeInfoHook
from .loops import ResumableEpochLoop, ResumableIterLoop
from .non_finite_hook import NonFiniteHook
from .runner import ResumableRunner
from .schedule_timer_hook import ScheduleTimerHook
from .work_dir import checkpoint_files

__all__ = [
    'BFloat16OptimWrapper',
    'BadImagesHook',
    'CheckDataHook',
    'CheckLoadedHook',
    'DeferredRuntimeInfoHook',
    'NonFiniteHook',
    'ResumableCheckpointHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableRunner',
    'ScheduleTimerHook',
    'checkpoint_files',
]
