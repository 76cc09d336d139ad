"""Leave values to log on the device until they are logged."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from us3l_mm.registry import HOOKS


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, but reads training outputs only when ``LoggerHook`` logs them.

    Reading a value makes the CPU wait for the GPU; mmengine's hook reads each value at each iteration, this one all
    of an interval in one transfer. Log, message hub and checkpoints hold the same values. Set it by
    ``default_hooks = dict(runtime_info=dict(type='us3l_mm.DeferredRuntimeInfoHook'))``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[dict[str, Any]] = []
        self._intervals: list[int] = []

    def before_train(self, runner: Runner) -> None:
        """Look up the intervals of the log."""
        super().before_train(runner)
        self._intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keep the outputs of an iteration; pass all on to the message hub when they are logged."""
        values = {}
        for key, value in (outputs or {}).items():  # copied: the model may change them later
            values[key] = value.detach().clone().squeeze() if isinstance(value, torch.Tensor) else value
        self._waiting.append(values)
        last = self.end_of_epoch(runner.train_dataloader, batch_idx) or self.is_last_train_iter(runner)
        if last or any(self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals):
            self._hand_on(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Pass all values on, so that a resumed run has them."""
        if self._waiting:
            self._hand_on(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def _hand_on(self, runner: Runner) -> None:
        tensors = [value for outputs in self._waiting for value in outputs.values() if isinstance(value, torch.Tensor)]
        numbers = iter(torch.stack([tensor.double() for tensor in tensors]).tolist() if tensors else [])
        for outputs in self._waiting:
            for key, value in outputs.items():
                value = next(numbers) if isinstance(value, torch.Tensor) else value
                runner.message_hub.update_scalar(f'train/{key}', value)
        self._waiting.clear()
