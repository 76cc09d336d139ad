"""The time that is left of a training whose iterations get dearer."""

from typing import Any

import numpy as np
from mmengine.hooks import IterTimerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from us3l_mm.models.multi_width import MultiWidthTraining
from us3l_mm.registry import HOOKS

_POINTS = 1000  # iterations whose widths are drawn in advance: a few milliseconds, and enough to follow a schedule


@HOOKS.register_module()
class ScheduleTimerHook(IterTimerHook):
    """mmengine's ``IterTimerHook``, whose ETA knows how many widths the iterations to come train.

    mmengine's takes them to last as long as those so far, which train the full width only at first. Here an iteration
    costs the sum of the squares of its widths, which is about what MACs go by, at the speed of the last twentieth of
    training. :class:`ResumableRunner` takes this hook in place of mmengine's; for models of one width it does the same.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at the schedule of the widths."""
        super().before_train(runner)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._costs = None
        if isinstance(model, MultiWidthTraining):
            self._costs = schedule_costs(model, runner.max_iters, runner.max_epochs)

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = 'train'
    ) -> None:
        """Measure as mmengine does, then set the ETA by the cost of what is left."""
        super()._after_iter(runner, batch_idx, data_batch, outputs, mode)
        if mode == 'train' and self._costs is not None:
            done, end = runner.iter + 1, runner.max_iters
            window = min(done - self.start_iter, max(20, end // 20))
            seconds = window * runner.message_hub.get_scalar('train/time').mean(window)
            before, now, last = np.interp([done - window, done, end], *self._costs)
            runner.message_hub.update_info('eta', float(seconds * (last - now) / (now - before)))


def schedule_costs(
    model: MultiWidthTraining, max_iters: int, max_epochs: int, power: float = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Add up what a training costs up to some of its iterations.

    Args:
        model (MultiWidthTraining): Model with a sampler.
        max_iters (int): Iterations of the whole training.
        max_epochs (int): Its epochs.
        power (float): A width w costs ``w ** power``: 2 is about its MACs, 0 counts passes. Defaults to 2.

    Returns:
        tuple[np.ndarray, np.ndarray]: Numbers of iterations from 0 to ``max_iters``, and the cost up to each, in
        iterations of width 1.0.
    """
    edges = np.unique(np.linspace(0, max_iters, _POINTS + 1).astype(int))
    costs = [0.0]
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist()):
        clock = (first * max_epochs // max_iters, max_epochs) if model.by_epoch else (first, max_iters)
        costs.append(costs[-1] + (end - first) * sum(width**power for width in model.sampler(first, *clock)))
    return edges, np.array(costs)
