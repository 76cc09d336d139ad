"""Refuse to train from a checkpoint that lacks what the run takes from it."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from us3l_mm.registry import HOOKS
from us3l_mm.slim import check_flag
from us3l_mm.utils.bad_values import first_few
from us3l_mm.utils.match_checkpoint import match_checkpoint

from .check_checkpoint import check_training_checkpoint, count_states, missing_parts, model_faults, pretrained_parts


@HOOKS.register_module()
class CheckLoadedHook(Hook):
    """Stop if checkpoints leave parts of the model random, or that of ``resume`` does not fit.

    mmengine only warns of keys that do not fit, even if none does, and takes any optimizer state.
    :class:`ResumableRunner` registers this hook.

    Args:
        allow_missing (bool): Whether parts of the model may start at random. Defaults to False.
    """

    priority = 'VERY_HIGH'  # before EMAHook swaps the weights

    def __init__(self, allow_missing: bool = False) -> None:
        self.allow_missing = check_flag('allow_missing', allow_missing)

    def before_run(self, runner: Runner) -> None:
        """Check the checkpoints that ``init_cfg`` names, which are loaded after this.

        Raises:
            RuntimeError: If one has nothing for a part of its module.
        """
        if not runner._resume and not self.allow_missing:
            for module, path, state in pretrained_parts(runner.model):
                self._refuse_missing(module, path, state)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check a checkpoint before anything of it is used, and give weights that are to be trained on our keys.

        Raises:
            RuntimeError: If the checkpoint does not fit; see :func:`check_training_checkpoint`.
        """
        path = runner._load_from or f'the newest checkpoint in {runner.work_dir}'
        averaged = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        if runner._resume:
            check_training_checkpoint(
                checkpoint,
                runner.model,
                runner.optim_wrapper,
                runner.param_schedulers,
                runner.train_loop,
                ema_model=averaged[0] if averaged else None,
                name=path,
            )
        else:
            checkpoint['state_dict'] = match_checkpoint(checkpoint, runner.model, path).state
            self._refuse_missing(runner.model, path, checkpoint['state_dict'])
            if averaged and 'ema_state_dict' in checkpoint:  # mmpretrain's EMAHook loads both, and swaps them
                model = runner.model.module if is_model_wrapper(runner.model) else runner.model
                states = ((averaged[0], 'ema_state_dict'), (model, 'state_dict'))
                faults = [fault for net, key in states for fault in model_faults(net, checkpoint.get(key), key)]
                if faults:
                    raise RuntimeError(f'cannot train from {path}: {first_few(faults)}. Take ema_state_dict out of it')

    def _refuse_missing(self, module: nn.Module, path: str, state: Mapping[str, Any]) -> None:
        """Raise RuntimeError if the weights of a checkpoint leave parts of a module random."""
        if self.allow_missing:
            return
        try:
            fault = missing_parts(module, state)
        except RuntimeError as error:
            raise RuntimeError(f'cannot train from {path}: {error}') from error
        if fault is not None:
            raise RuntimeError(
                f'cannot train from {path}: {fault}. To start that at random, give --allow-missing '
                '(CheckLoadedHook: allow_missing=True)'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note how many parameters have optimizer state, without which a lost one could not be told."""
        if 'optimizer' in checkpoint:
            checkpoint['meta']['optimizer_states'] = count_states(runner.optim_wrapper)
