"""Stop a training whose loss is not finite."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from us3l_mm.registry import HOOKS


@HOOKS.register_module()
class CheckInvalidLossHook(Hook):
    """Stop if the loss is not finite and name the widths; mmdet's hook of this name, for every model.

    Args:
        interval (int): Iterations between two checks; each one waits for the device. Defaults to 50.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Check the loss every ``interval`` iterations.

        Raises:
            RuntimeError: If it is infinite or NaN.
        """
        if not self.every_n_train_iters(runner, self.interval) or torch.isfinite(outputs['loss']).all():
            return
        widths = [f'{value:.3g}' for key, value in outputs.items() if key.startswith('width_')]
        at = f' at widths {", ".join(widths)}' if widths else ''
        raise RuntimeError(
            f'the loss of iteration {runner.iter + 1}{at} is {outputs["loss"].item()}; lower the learning rate, or '
            'use bfloat16 or float32 where float16 overflows'
        )
