"""Stop a training, or leave out an update, where a loss or a gradient is not finite."""

import json
from collections import deque
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.optim import Optimizer

from us3l_mm.models.multi_width import MultiWidthTraining
from us3l_mm.registry import HOOKS
from us3l_mm.slim.options import check_choice, check_count
from us3l_mm.utils.bad_values import find_bad_values
from us3l_mm.utils.files import write_text

from .seeded_batches import SeededBatchSampler
from .work_dir import HINT

FOLDER = 'nonfinite'


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a weight is infinite or NaN."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Notice values that are not finite without making the CPU wait for the device.

    The device remembers the first iteration whose loss is not finite. What it remembers is copied every ``interval``
    iterations and read at the next such iteration, so that a training stops within twice as many. No checkpoint is
    written after a bad iteration. ``nonfinite/`` in the work dir gets a file with its widths, losses, images and seeds.

    Args:
        interval (int): Iterations between two copies. Defaults to 10.
        on_nonfinite (str): ``'stop'``, or ``'skip'``: an update whose gradient is not finite is left out, with what
            its iteration did to batch-norm statistics; for this the CPU waits at each update. Defaults to ``'stop'``.
        max_skipped (int): Updates that may be left out. Defaults to 10.

    Raises:
        TypeError: If a count is not whole.
        ValueError: If an option is out of its range.
    """

    def __init__(self, interval: int = 10, on_nonfinite: str = 'stop', max_skipped: int = 10) -> None:
        self.interval = check_count('interval', interval)
        self.skips = check_choice('on_nonfinite', on_nonfinite, ('stop', 'skip')) == 'skip'
        self.max_skipped = check_count('max_skipped', max_skipped, least=0)
        self.skipped = 0
        self._recent: deque[tuple[int, dict[str, Any]]] = deque(maxlen=2 * self.interval + 1)

    def before_train(self, runner: Runner) -> None:
        """Prepare the memory on the device."""
        self._runner = runner
        device = next(runner.model.parameters()).device
        self._first = torch.full((), -1, device=device)
        self._copied = self._first.cpu()
        self._event = None
        if device.type == 'cuda':
            self._copied, self._event = self._copied.pin_memory(), torch.cuda.Event()
        if self.skips:
            wrappers = getattr(runner.optim_wrapper, 'optim_wrappers', {'': runner.optim_wrapper}).values()
            for wrapper in wrappers:
                wrapper.optimizer.register_step_pre_hook(self._leave_out)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep batch-norm statistics, which change before the gradient is known, should the update be left out."""
        if self.skips:
            self._kept = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Look at the loss on the device, and now and then at what was found.

        Raises:
            NonFiniteError: If a loss was not finite.
        """
        outputs = outputs or {}
        self._recent.append((runner.iter, outputs))
        if self.skips or 'loss' not in outputs:
            return
        bad = ~torch.isfinite(torch.as_tensor(outputs['loss'], device=self._first.device)).all()
        self._first = torch.where(bad & (self._first < 0), runner.iter, self._first)
        if not self.every_n_train_iters(runner, self.interval):
            return
        if self._event is None:
            self._stop_if_bad(int(self._first))
        else:
            self._event.synchronize()  # of the copy ``interval`` iterations ago
            self._stop_if_bad(int(self._copied))
            self._copied.copy_(self._first, non_blocking=True)
            self._event.record()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Look at the loss and at the weights; this waits for the device.

        Raises:
            NonFiniteError: If one is not finite; nothing is written then.
        """
        self._stop_if_bad(int(self._first))
        bad = find_bad_values(checkpoint['state_dict'])
        if bad is not None:
            iteration = self._recent[-1][0] if self._recent else runner.iter  # after an epoch, runner.iter is the next
            self._stop(iteration, f'no checkpoint of iteration {iteration + 1} was written: {bad}')

    def after_train(self, runner: Runner) -> None:
        """Look at the losses since the last copy; this waits for the device.

        Raises:
            NonFiniteError: If one is not finite.
        """
        self._stop_if_bad(int(self._first))

    def _stop_if_bad(self, first: int) -> None:
        if first >= 0:
            losses = dict(self._recent).get(first, {})
            self._stop(first, f'the loss of iteration {first + 1} is {float(losses.get("loss", "nan"))}')

    def _stop(self, iteration: int, what: str) -> None:
        widths = self._widths(iteration)
        at = f' (widths {", ".join(f"{width:.4g}" for width in widths)})' if widths else ''
        raise NonFiniteError(
            f'{what}{at}. What reproduces it: {self._report(iteration, what)}; the last checkpoint is '
            f'{self._last_checkpoint()}. Lower the learning rate, use bfloat16 or float32 where float16 overflows, or '
            "leave such updates out by on_nonfinite='skip' of us3l_mm.NonFiniteHook"
        )

    def _leave_out(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Drop all gradients if one is not finite: optimizers leave parameters without a gradient alone."""
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if not parameters or torch.stack([torch.isfinite(p.grad).all() for p in parameters]).all():
            return
        for parameter in parameters:
            parameter.grad = None
        for buffer, value in self._kept:
            buffer.copy_(value)
        self.skipped += 1
        iteration = self._runner.iter
        what = f'a gradient of iteration {iteration + 1} is not finite'
        if self.skipped > self.max_skipped:
            self._stop(iteration, f'{what}, and {self.max_skipped} updates were left out before (max_skipped)')
        self._runner.logger.warning(
            f'{what}: update left out, {self.skipped} of at most {self.max_skipped}; see '
            f'{self._report(iteration, what)}'
        )

    def _widths(self, iteration: int) -> list[float]:
        """Widths that were trained in an iteration; none if the model has one width."""
        runner = self._runner
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(model, MultiWidthTraining):
            return []
        if not model.by_epoch:
            return model.sampler(iteration, iteration, runner.max_iters)
        return model.sampler(iteration, iteration * runner.max_epochs // runner.max_iters, runner.max_epochs)

    def _report(self, iteration: int, what: str) -> str:
        """Write what reproduces an iteration; return the path, or why it cannot be written."""
        runner = self._runner
        batches = runner.train_dataloader.batch_sampler
        indices = batches.indices_of(iteration) if isinstance(batches, SeededBatchSampler) else None
        outputs = dict(self._recent).get(iteration, {})
        report = dict(
            what=what,
            iteration=iteration + 1,
            widths=self._widths(iteration),
            values={key: float(value) for key, value in outputs.items() if torch.as_tensor(value).numel() == 1},
            images=None if indices is None else [_name_of(runner.train_dataloader.dataset, index) for index in indices],
            seeds=dict(seed=runner.seed, rank=runner.rank, iteration=iteration),
            resume=f'--resume {self._last_checkpoint()}, which comes to the same iteration',
        )
        path = Path(runner.work_dir, FOLDER, f'iter_{iteration + 1}_rank_{runner.rank}.json')
        try:
            write_text(path, json.dumps(report, indent=2) + '\n')
        except OSError as error:  # the loss is what has to be told
            return str(error)
        return str(path)

    def _last_checkpoint(self) -> str:
        hint = Path(self._runner.work_dir, HINT)
        return str(hint.parent / hint.read_text().strip()) if hint.is_file() else 'none yet'


def _name_of(dataset: Any, index: int) -> str | int:
    """Path of an image where the data set tells it, else its index."""
    info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
    return info.get('img_path', index)
