"""Count what a training costs, by width, role and stage."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.models import BaseSelfSupervisor
from torch import Tensor, nn

from us3l_mm.models.multi_width import MultiWidthTraining
from us3l_mm.registry import HOOKS
from us3l_mm.slim import WidthSampler
from us3l_mm.utils.files import write_text
from us3l_mm.utils.sealed import seal, unseal
from us3l_mm.utils.stopwatch import Stopwatch

from .training_cost import TrainingCost, cost_report, cost_table, cost_text, forward_macs

COST = 'cost.json'
_READ = 50  # iterations between two looks at what a GPU has measured


@HOOKS.register_module()
class CostHook(Hook):
    """Record passes, images, MACs and seconds by stage, width and role, and the cost of the training in T.

    T is the cost of training the full width alone for as many epochs: in passes, as the US3L paper counts, and in
    seconds. Written to ``cost.json`` in the work dir with every checkpoint, and logged; a resumed run goes on counting.
    The first process counts, for all. It is for models of several widths and for mmpretrain's self-supervised ones,
    whose students run once an iteration; for others it does nothing. See :class:`TrainingCost` for what is counted.
    """

    _cost: TrainingCost | None = None

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Take up the count of a resumed run."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(self._model, (MultiWidthTraining, BaseSelfSupervisor)):
            return
        known = runner.message_hub.get_info('cost')  # of a resumed run
        self._cost = TrainingCost(None if known is None else unseal(known, 'message_hub.runtime_info.cost'))
        self._watch = Stopwatch(next(self._model.parameters()).device)
        self._macs: dict[float, int | None] = {}
        self._sizes: set[tuple[int, ...]] = set()
        self._world = runner.world_size

    @master_only
    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clock; what comes between epochs does not count."""
        self._last = time.perf_counter()

    @master_only
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Listen to the passes of an iteration. Only then: copies of the model shall not have this hook."""
        model = self._model
        if self._cost is None:
            return
        if isinstance(model, MultiWidthTraining):
            clock = (runner.epoch, runner.max_epochs) if model.by_epoch else (runner.iter, runner.max_iters)
            stage = model.sampler.stage(*clock) if isinstance(model.sampler, WidthSampler) else 0
            self._cost.start_iteration(stage, model.sampler.width_range[1])
            model.on_pass = self._on_pass
            return
        width = getattr(model.backbone, 'width', None)
        self._width, self._images = width if isinstance(width, float) else 1.0, 0
        self._cost.start_iteration(0, self._width)
        self._handle = model.backbone.register_forward_pre_hook(self._on_view)

    def _on_pass(self, role: str, width: float, inputs: Tensor | list[Tensor]) -> None:
        views = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        self._sizes.add(tuple(views[0].shape[-2:]))
        group = round(20 * width) / 20 if self._model.sampler.count is None else width
        self._watch.switch(self._cost.add(role, width, self._world * sum(map(len, views)), group))

    def _on_view(self, backbone: nn.Module, inputs: tuple[Tensor]) -> None:
        self._sizes.add(tuple(inputs[0].shape[-2:]))
        self._images += self._world * len(inputs[0])

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Count the iteration."""
        if self._cost is None:
            return
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if isinstance(self._model, MultiWidthTraining):
            self._model.on_pass = None
            self._watch.switch(None)
        else:
            self._handle.remove()
            self._cost.add_seconds(self._cost.add('student', self._width, self._images), seconds)
        self._cost.end_iteration(seconds)
        if self.every_n_train_iters(runner, _READ):
            self._read()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write and log the cost so far; this waits for the device, as reading the weights does."""
        if self._cost is not None:
            runner.logger.info(f'training cost so far: {cost_text(self._write(runner))}')
            runner.message_hub.update_info('cost', seal(self._cost.saved()))
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write and log the cost of the whole training."""
        if self._cost is not None and self._sizes:
            report = self._write(runner)
            runner.logger.info(f'training cost: {cost_text(report)}\n{cost_table(report)}')

    def _read(self, wait: bool = False) -> None:
        for row, seconds in self._watch.read(wait):
            self._cost.add_seconds(row, seconds)

    def _write(self, runner: Runner) -> dict[str, Any]:
        self._read(wait=True)
        report = cost_report(self._cost.state, self._macs_at)
        if self._sizes:  # else a resumed run has trained nothing yet, and the file has the MACs
            write_text(Path(runner.work_dir, COST), json.dumps(report, indent=2) + '\n')
        return report

    def _macs_at(self, width: float) -> int | None:
        """MACs of the backbone for one image; None if images have several sizes, or they cannot be counted."""
        if len(self._sizes) != 1:
            return None
        if width not in self._macs:
            model = self._model
            part = model.slimmable_part() if isinstance(model, MultiWidthTraining) else model.backbone
            try:
                self._macs[width] = forward_macs(part, width, *self._sizes)
            except Exception as error:  # whatever a backbone raises that cannot be traced: no reason to end a training
                self._macs[width] = None
                print_log(f'MACs at width {width:g} cannot be counted: {error}', 'current', logging.WARNING)
        return self._macs[width]
