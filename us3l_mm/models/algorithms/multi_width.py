"""Training of several widths in one iteration, whatever the loss."""

from contextlib import nullcontext
from typing import Any

import torch
import torch._dynamo as dynamo
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

    def set_training(
        self,
        sampler: dict | None,
        group_reg: dict | None,
        update: str,
        by_epoch: bool,
        micro_batches: int = 1,
        compile: dict | None = None,
    ) -> None:
        """Set the widths, the regularisation and the update rule; arguments as for :class:`US3L`.

        Raises:
            ValueError: If ``update`` is not one of those named, ``micro_batches`` is below 1, the backbone cannot run
                at the lowest width, or forward passes of any width are to be compiled.
        """
        if not isinstance(micro_batches, int) or micro_batches < 1:
            raise ValueError(f'micro_batches must be a whole number from 1, got {micro_batches!r}')
        if compile is not None and not isinstance(compile, dict):
            raise ValueError(f'compile takes arguments of torch.compile, dict() for none of them, got {compile!r}')
        if update not in ('per_width', 'accumulate'):
            raise ValueError(f"update must be one of ('per_width', 'accumulate'), got {update!r}")
        self.sampler = WidthSampler(**(sampler or {}))
        self.group_reg = None if group_reg is None else GroupRegularizer(**group_reg)
        self.update = update
        self.by_epoch = by_epoch
        self.micro_batches = micro_batches
        if self.sampler.width_range[0] < 1:
            trace_channels(self.slimmable_part(), self.sampler.width_range[0])  # raises here rather than in training
        if compile is not None:
            if self.sampler.count is None:
                raise ValueError(
                    'compile needs few widths, for each is a graph of its own, which takes minutes: set '
                    'sampler.width_step, such as 0.05, or a list of sampler.widths'
                )
            # One frame has a graph for each width and loss; beyond the limit torch would run it uncompiled.
            dynamo.config.cache_size_limit = max(dynamo.config.cache_size_limit, 4 * self.sampler.count)
            self.compile(**compile)

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

    def idle_parts(self, narrower: bool) -> list[nn.Module] | None:
        """Trainable parts that the loss of a width does not use; None if that is not known beforehand."""
        return None

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
                "training set model_wrapper_cfg = dict(type='us3l_mm.US3LDistributedDataParallel'). Fully sharded "
                'training (FSDP) flattens weights, whose channels the group regularisation then cannot tell'
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
                f'accumulative_counts must be 1: {type(self).__name__} has its own schedule of updates; US3L trains '
                'large batches in parts by `micro_batches`'
            )
        with optim_wrapper.optim_context(model):
            batch = self.data_preprocessor(data, True)
        iteration, max_iters, epoch, max_epochs = self._time()
        widths = self.sampler(iteration, epoch, max_epochs)
        memory = self.start_iteration(batch, iteration / max_iters)
        layers = [layer for layer in self.slimmable_part().modules() if isinstance(layer, SlimmableLayer)]
        parts = [(part, dict(memory)) for part in _split(batch, self.micro_batches)]
        losses, logs = [], {}
        for index, width in enumerate(widths):
            updates = index == len(widths) - 1 or self.update == 'per_width'
            losses.append(0.0)
            for number, (part, memory) in enumerate(parts, start=1):
                reduces = updates and number == len(parts)
                sync = nullcontext() if model is self else model.reduction(reduces, self.idle_parts(index > 0))
                with sync, switch_layers(layers, [width] * len(layers), share=True):
                    with optim_wrapper.optim_context(model):
                        arguments = self.loss_arguments(part['inputs'], width, index > 0, memory)
                        outputs = model(**part, mode='loss', in_step=True, **arguments)
                        loss = outputs['loss'] / len(parts)
                    optim_wrapper.backward(loss)  # in the block: checkpointing runs the forward again
                losses[-1] += loss.detach()
                if index == 0:
                    memory['widest'] = outputs['outputs']
                    logs.update(self.extra_logs(outputs['outputs']))  # of the last part
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


def _split(batch: dict, count: int) -> list[dict]:
    """Equal parts of a preprocessed batch: ``inputs``, one tensor or several views, and ``data_samples``."""
    inputs, samples = batch['inputs'], batch.get('data_samples')
    if count == 1:
        return [dict(inputs=inputs, data_samples=samples)]
    views = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    size, rest = divmod(len(views[0]), count)
    if rest:
        raise ValueError(
            f'micro_batches={count} must divide the images of each process, got {len(views[0])}; change batch_size, '
            'and set drop_last=True if this was the last batch of an epoch'
        )
    chunks = zip(*(view.chunk(count) for view in views))
    return [
        dict(
            inputs=chunk[0] if views[0] is inputs else list(chunk),
            data_samples=None if samples is None else samples[index * size : (index + 1) * size],
        )
        for index, chunk in enumerate(chunks)
    ]


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
