"""mmengine's Runner for trainings that are interrupted, moved and resumed."""

import errno
import functools
import os
import stat
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, master_only
from mmengine.hooks import CheckpointHook, IterTimerHook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from us3l_mm.registry import LOOPS, RUNNERS
from us3l_mm.utils.files import cannot_write, write_files
from us3l_mm.version import __version__

from .bad_images_hook import BadImagesHook
from .check_loaded_hook import CheckLoadedHook
from .checkpoint_hook import ResumableCheckpointHook
from .console import keep_settings_off_screen, short_schedule, start_summary
from .forks import end_forks_by_sigterm
from .loops import ResumableEpochLoop, ResumableIterLoop
from .non_finite_hook import NonFiniteHook
from .quiet_worker import quieten
from .schedule_timer_hook import ScheduleTimerHook
from .signals import SignalHook, SignalRequests
from .work_dir import Found, lock, newest_checkpoint, read_training_checkpoint, refuse_to_overwrite

_OURS = {
    CheckpointHook: ResumableCheckpointHook,
    EpochBasedTrainLoop: ResumableEpochLoop,
    IterBasedTrainLoop: ResumableIterLoop,
    IterTimerHook: ScheduleTimerHook,
}


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """mmengine's ``Runner``, which loses nothing and goes on exactly where it stopped.

    - A checkpoint gets its name when it is whole and on the disk; the last good one stays until then.
    - ``resume=True`` finds the newest sound checkpoint, and the run continues with the next batch.
    - A work dir is locked; one with checkpoints is not trained over unless the config says ``overwrite = True``.
    - Keys of a checkpoint that are missing, and losses that are not finite, are errors.
    - SIGTERM and SIGINT write a checkpoint and stop, SIGUSR1 writes one and goes on.
    - The ETA knows how many widths the iterations to come train.
    - The screen shows a summary; environment, config and hooks are in the log file.

    For this, our loops, :class:`ResumableCheckpointHook` and :class:`ScheduleTimerHook` take the place of mmengine's
    own; other types are left alone. Arguments as for mmengine's. Use it in any config by
    ``runner_type = 'us3l_mm.ResumableRunner'``.

    Raises:
        SystemExit: If another training has the work dir, or it has checkpoints that this one would overwrite.
    """

    def __init__(self, *args, **kwargs) -> None:
        self._starts_anew = not kwargs.get('resume', False)
        super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment, and claim the work dir before anything is written to it."""
        super().setup_env(env_cfg)
        end_forks_by_sigterm()
        # What torch.compile makes, beside the work dirs, so that a resumed or another run starts at once. It is code
        # to be loaded, so a folder that others write to is left alone.
        parent = Path(self.work_dir).parent
        if os.access(parent, os.W_OK) and not parent.stat().st_mode & stat.S_IWOTH:
            os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(parent / 'compiled'))
        self._timeout = env_cfg.get('dist_cfg', {}).get('timeout')
        if self.rank == 0:
            self._lock = lock(Path(self.work_dir))
            if self._starts_anew:
                refuse_to_overwrite(Path(self.work_dir), self.cfg.get('overwrite', False))

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger, whose files alone have what fills hundreds of lines."""
        logger = super().build_logger(*args, **kwargs)
        keep_settings_off_screen(logger)
        return logger

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook, ours in place of mmengine's ``CheckpointHook`` and ``IterTimerHook``."""
        if isinstance(hook, dict) and '://' not in str(hook.get('out_dir')):
            hook = _ours(hook, MMENGINE_HOOKS)
        super().register_hook(hook, priority)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop, ours in place of mmengine's."""
        if isinstance(loop, dict):
            by_epoch = loop.get('by_epoch', True)
            given = {key: value for key, value in loop.items() if key != 'by_epoch'}
            loop = _ours({'type': EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop, **given}, LOOPS)
        loop = super().build_train_loop(loop)
        self.logger.info(start_summary(self, loop))
        if warning := short_schedule(self, loop):
            self.logger.warning(warning)
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop; its workers outlive signals, as those of the training loop do."""
        loop = super().build_val_loop(loop)
        quieten(loop.dataloader)
        return loop

    def train(self) -> Any:
        """Train, from the start or from where the training was; see :meth:`mmengine.runner.Runner.train`."""
        if self._resume:
            self._find_checkpoint()
        for kind in (BadImagesHook, CheckLoadedHook, NonFiniteHook):
            if not any(isinstance(hook, kind) for hook in self.hooks):
                self.register_hook(kind())
        with SignalRequests(self._timeout) as requests:
            self.register_hook(SignalHook(requests))
            try:
                return super().train()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise cannot_write(error.filename or f'logs in {self.log_dir}', Path(self.work_dir), error) from error

    def _find_checkpoint(self) -> None:
        """Choose the checkpoint to go on from, the same on all processes, and take its seed."""
        found: list[Found | None] = [None]
        if self.rank == 0:
            if self._load_from is not None:
                found = [read_training_checkpoint(Path(self._load_from))]
            else:
                found = [newest_checkpoint(Path(self.work_dir), self._checkpoint_folder())]
        broadcast_object_list(found)
        chosen = found[0]
        if chosen is None:
            self._resume, self._load_from = False, self.cfg.get('load_from_if_new')
            start = f'with the weights of {self._load_from}' if self._load_from else 'from the beginning'
            self.logger.warning(f'nothing to resume: no checkpoint in {self.work_dir}; starting {start}')
            return
        self._load_from = str(chosen.path)
        seed = chosen.meta.get('seed')
        if seed is not None and self._randomness_cfg.get('seed') is None:  # before data samplers take it
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)

    def _checkpoint_folder(self) -> Path:
        hook = next((hook for hook in self.hooks if isinstance(hook, ResumableCheckpointHook)), None)
        if hook is None or hook.out_dir is None:
            return Path(self.work_dir)
        return Path(hook.out_dir, Path(self.work_dir).name)

    def load_checkpoint(self, *args, **kwargs) -> dict[str, Any]:
        """Load weights as mmengine does; return the checkpoint."""
        self._loaded = super().load_checkpoint(*args, **kwargs)
        return self._loaded

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume as mmengine does, check that the place fits the data, and tell what was found.

        Raises:
            ValueError: If the epochs of the checkpoint have another number of batches.
        """
        super().resume(filename, *args, **kwargs)
        loop, loaded = self.train_loop, self._loaded
        parts = [name for name in ('optimizer', 'param_schedulers', 'ema_state_dict') if name in loaded]
        parts += ['loss scale'] if 'loss_scaler' in loaded.get('optimizer', ()) else []
        self.logger.info(f'{filename} goes on after iteration {loop.iter}; it holds weights, {", ".join(parts)}')
        if not isinstance(loop, ResumableEpochLoop):
            return
        now = len(loop.dataloader)
        then = loaded['meta'].get('epoch_length', now)
        if then != now or not 0 <= loop.iter - loop.epoch * now <= now:
            raise ValueError(
                f'the epochs of {filename} have {then} batches (iteration {loop.iter} in epoch {loop.epoch}), those of '
                f'this run {now}: resume with the data, the total batch size and drop_last of then, or start from the '
                'weights by `--cfg-options load_from=...`'
            )

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Write a checkpoint, which gets its name when it is whole; arguments as for mmengine's.

        Raises:
            OSError: If it cannot be written; what was there before is untouched.
        """
        meta = dict(kwargs.pop('meta', None) or {}, us3l_mm_version=__version__)
        if self.cfg.get('input_size') is not None:  # for the steps after this one
            meta['input_size'] = self.cfg.input_size
        if isinstance(self.train_loop, ResumableEpochLoop):
            meta['epoch_length'] = len(self.train_loop.dataloader)
        save = functools.partial(super().save_checkpoint, *args, meta=meta, **kwargs)
        if '://' in out_dir:
            save(out_dir, filename)
        else:
            write_files({Path(out_dir, filename): lambda part: save(str(part.parent), part.name)}, force=True)


def _ours(cfg: dict, registry: Any) -> dict:
    """Replace a type of mmengine in a config by ours."""
    kind = cfg.get('type')
    kind = registry.get(kind) if isinstance(kind, str) else kind
    return {**cfg, 'type': _OURS[kind]} if kind in _OURS else cfg
