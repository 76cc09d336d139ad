"""Training of several widths in one iteration, whatever the loss."""

from contextlib import nullcontext
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from us3l_mm.models.group_reg import GroupRegularizer
from us3l_mm.slim import SlimmableLayer, WidthSampler, trace_channels
from us3l_mm.slim.scope import switch_layers


class MultiWidthTraining:
    """One iteration over the widths of a sampler, for a model with a slimmable ``backbone``.

    Put it before a model of mmengine and call :meth:`set_training` in the constructor. The model says by three
    methods what it trains: :meth:`start_iteration`, :meth:`loss_arguments` and ``loss``, which returns at
    least ``loss``, a scalar, and ``outputs``, what narrower widths may need of the widest.

    Attributes:
        log_interval (int): Iterations from one penalty of the group regularisation in the log to the next: it
            takes a pass over all weights, which training does not need.
    """

    log_interval = 50

    def set_training(self, sampler: dict | None, group_reg: dict | None, update: str, by_epoch: bool) -> None:
        """Set the widths, the regularisation and the update rule; arguments as for :class:`US3L`.

        Raises:
            ValueError: If ``update`` is not one of those named, or the backbone cannot run at the lowest width.
        """
        if update not in ('per_width', 'accumulate'):
            raise ValueError(f"update must be one of ('per_width', 'accumulate'), got {update!r}")
        self.sampler = WidthSampler(**(sampler or {}))
        self.group_reg = None if group_reg is None else GroupRegularizer(**group_reg)
        self.update = update
        self.by_epoch = by_epoch
        if self.sampler.width_range[0] < 1:
            trace_channels(self.slimmable_part(), self.sampler.width_range[0])  # raises here rather than in training

    def slimmable_part(self) -> nn.Module:
        """What the width switches: a network that maps images to features."""
        return self.backbone

    def start_iteration(self, batch: dict, progress: float) -> dict:
        """Check the preprocessed batch and do what comes before all widths.

        Args:
            batch (dict): ``inputs`` and ``data_samples``.
            progress (float): Fraction of training done.

        Returns:
            dict: Memory of this iteration, handed to :meth:`loss_arguments`; ``widest`` is added to it.
        """
        return {}

    def loss_arguments(self, inputs: Any, width: float, narrower: bool, memory: dict) -> dict:
        """Arguments of ``loss`` beside the batch.

        Args:
            inputs (Any): Preprocessed inputs.
            width (float): Width now in force.
            narrower (bool): Whether this is not the widest of the iteration.
            memory (dict): See :meth:`start_iteration`.
        """
        return {}

    def extra_logs(self, outputs: Any) -> dict[str, Tensor]:
        """More values to log, from what ``loss`` returned as ``outputs`` at the widest width."""
        return {}

    def penalised(self, width: float) -> list[nn.Module]:
        """Parts of the model that the group regularisation decays after an update at ``width``."""
        return [self]

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor', **kwargs) -> Any:
        """As for the model beneath; with ``mode='loss'``, inside :meth:`run_step`, the arguments of ``loss``.

        Raises:
            RuntimeError: If a loss is asked for outside :meth:`run_step`, which would train one width only.
        """
        if mode != 'loss':
            return super().forward(inputs, data_samples, mode)
        if not kwargs.pop('in_step', False):
            raise RuntimeError(
                f'{type(self).__name__} trains several widths an iteration, in its own train_step. For distributed '
                "training set model_wrapper_cfg = dict(type='us3l_mm.US3LDistributedDataParallel')"
            )
        return self.loss(inputs, data_samples, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """One iteration on one process; see :meth:`run_step`."""
        return self.run_step(data, optim_wrapper, self)

    def run_step(self, data: Any, optim_wrapper: OptimWrapper, model: nn.Module) -> dict[str, Any]:
        """One iteration: draw widths, then train each.

        Args:
            data (Any): Batch of the data loader.
            optim_wrapper (OptimWrapper): Optimizer wrapper.
            model (nn.Module): What forward passes go through: the model itself or its DDP wrapper.

        Returns:
            dict: Values to log: losses by role, widths, penalty, :meth:`extra_logs`.

        Raises:
            RuntimeError: If no Runner tells the iteration.
            ValueError: If the batch doesn't fit, or gradients are to be accumulated by the optimizer wrapper.
        """
        if getattr(optim_wrapper, '_accumulative_counts', 1) != 1:
            raise ValueError(
                f'accumulative_counts must be 1: {type(self).__name__} has its own schedule of updates, see `update`'
            )
        with optim_wrapper.optim_context(model):
            batch = self.data_preprocessor(data, True)
        iteration, max_iters, epoch, max_epochs = self._time()
        widths = self.sampler(iteration, epoch, max_epochs)
        memory = self.start_iteration(batch, iteration / max_iters)
        layers = [layer for layer in self.slimmable_part().modules() if isinstance(layer, SlimmableLayer)]
        losses, logs = [], {}
        for index, width in enumerate(widths):
            last = index == len(widths) - 1
            updates = last or self.update == 'per_width'
            sync = nullcontext() if updates or model is self else model.no_sync()
            with sync, switch_layers(layers, [width] * len(layers), share=True):
                with optim_wrapper.optim_context(model):
                    arguments = self.loss_arguments(batch['inputs'], width, index > 0, memory)
                    outputs = model(batch['inputs'], batch.get('data_samples'), mode='loss', in_step=True, **arguments)
                optim_wrapper.backward(outputs['loss'])  # in the block: checkpointing runs the forward again
            losses.append(outputs['loss'].detach())
            if index == 0:
                memory['widest'] = outputs['outputs']
                logs.update(self.extra_logs(outputs['outputs']))
            if updates:
                if self.group_reg is not None:
                    parameters = [p for part in self.penalised(width) for p in part.parameters() if p.requires_grad]
                    if iteration % self.log_interval == 0:
                        logs.setdefault('group_reg', self.group_reg.penalty(parameters, iteration / max_iters))
                    scaler = getattr(optim_wrapper, 'loss_scaler', None)
                    scale = None if scaler is None else scaler.scale(parameters[0].new_ones(()))
                    self.group_reg.add_gradient(parameters, iteration / max_iters, scale)
                optim_wrapper.step()
                optim_wrapper.zero_grad()
        return {**_by_role(widths, losses), **logs}

    def _time(self) -> tuple[int, int, int, int]:
        """Iteration and its maximum, then stage clock and its maximum: epochs or iterations."""
        hub = MessageHub.get_current_instance()
        names = ('iter', 'max_iters', *(('epoch', 'max_epochs') if self.by_epoch else ('iter', 'max_iters')))
        values = tuple(hub.get_info(name) for name in names)
        if None in values:
            raise RuntimeError(
                f'{type(self).__name__} takes the time of training from the Runner, which has not told '
                f'{names[values.index(None)]!r}; train it by a Runner'
            )
        return values


def _by_role(widths: list[float], losses: list[Tensor]) -> dict[str, Any]:
    """Losses and widths of the widest, the narrowest and the widths between, which are averaged."""
    logs: dict[str, Any] = {'loss': sum(losses), 'loss_widest': losses[0], 'width_widest': widths[0]}
    if len(widths) > 1:
        logs.update(loss_narrowest=losses[-1], width_narrowest=widths[-1])
    if len(widths) > 2:
        between = slice(1, -1)
        logs['loss_random'] = torch.stack(losses[between]).mean()
        logs['width_random'] = sum(widths[between]) / (len(widths) - 2)
    return logs
