"""Training of several widths in one iteration, whatever the loss."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch._dynamo as dynamo
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from us3l_mm.slim import SlimmableLayer, WidthSampler, switch_layers, trace_channels

from .group_reg import GroupRegularizer


@dataclass
class Part:
    """A part of the batch, and what its widths hand on to each other within one iteration.

    Attributes:
        inputs (Any): Preprocessed images, (N, 3, H, W), or a list of views.
        data_samples (Any): As for the model.
        widest (Any): ``outputs`` of the loss at the widest width; None while that is trained.
        targets (dict[float, list[Tensor]]): Targets of the teacher, by the width it ran at.
    """

    inputs: Any
    data_samples: Any = None
    widest: Any = None
    targets: dict[float, list[Tensor]] = field(default_factory=dict)


@dataclass
class Iteration:
    """An iteration of training: its place in time, its widths from the widest, the parts of its batch."""

    number: int
    progress: float
    widths: list[float]
    parts: list[Part]


class MultiWidthTraining(BaseModel):
    """One iteration over the widths of a sampler, for a model with a slimmable ``backbone``.

    Put it before a model of mmengine and call :meth:`set_training` in the constructor. A model says what it trains
    by ``loss``, which returns at least ``loss``, a scalar, and ``outputs``, what narrower widths may need of the
    widest; and by four hooks: :meth:`start_iteration`, :meth:`loss_arguments`, :meth:`extra_logs`,
    :meth:`penalised`.

    Attributes:
        slimmable_parts (tuple[str, ...]): Names of the modules that the width switches, in the order of their calls.
        log_interval (int): Iterations from one penalty of the group regularisation in the log to the next: it
            takes a pass over all weights, which training does not need.
    """

    slimmable_parts: tuple[str, ...] = ('backbone',)
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
            ValueError: If an option is not one of those named, the backbone cannot run at the lowest width, or forward
                passes of any width are to be compiled.
        """
        if not isinstance(micro_batches, int) or micro_batches < 1:
            raise ValueError(f'micro_batches must be a whole number from 1, got {micro_batches!r}')
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
            self._compile(compile)

    def _compile(self, options: dict) -> None:
        if not isinstance(options, dict):
            raise ValueError(f'compile takes arguments of torch.compile, dict() for none of them, got {options!r}')
        if self.sampler.count is None:
            raise ValueError(
                'compile needs few widths, for each is a graph of its own, which takes minutes: set '
                'sampler.width_step, such as 0.05, or a list of sampler.widths'
            )
        # One frame has a graph for each width and loss; beyond the limit torch would run it uncompiled.
        dynamo.config.cache_size_limit = max(dynamo.config.cache_size_limit, 4 * self.sampler.count)
        self.compile(**options)

    def slimmable_part(self) -> nn.Module:
        """What the width switches: a network that maps images to features."""
        if len(self.slimmable_parts) == 1:
            return getattr(self, self.slimmable_parts[0])
        return nn.Sequential(OrderedDict((name, getattr(self, name)) for name in self.slimmable_parts))

    def start_iteration(self, iteration: Iteration) -> None:
        """Check the batch and do what comes before all widths."""

    def loss_arguments(self, part: Part, width: float) -> dict:
        """Arguments of ``loss`` beside the batch, at the width now in force; ``part.widest`` is None at the widest."""
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
        iteration = self._iteration(batch)
        self.start_iteration(iteration)
        layers = [layer for layer in self.slimmable_part().modules() if isinstance(layer, SlimmableLayer)]
        losses, logs = [], {}
        for index, width in enumerate(iteration.widths):
            updates = self.update == 'per_width' or index == len(iteration.widths) - 1
            losses.append(self._train_width(width, iteration.parts, layers, optim_wrapper, model, updates))
            if index == 0:
                logs.update(self.extra_logs(iteration.parts[-1].widest))
            if updates:
                for name, value in self._update(width, iteration, optim_wrapper).items():
                    logs.setdefault(name, value)
        return {**_by_role(iteration.widths, losses), **logs}

    def _iteration(self, batch: Mapping[str, Any]) -> Iteration:
        """Draw the widths of this iteration and split its batch."""
        hub = MessageHub.get_current_instance()
        clock = ('epoch', 'max_epochs') if self.by_epoch else ('iter', 'max_iters')  # of the stages
        time = {name: hub.get_info(name) for name in ('iter', 'max_iters', *clock)}
        unknown = [name for name, value in time.items() if value is None]
        if unknown:
            raise RuntimeError(
                f'{type(self).__name__} takes the time of training from the Runner, which has not told '
                f'{unknown[0]!r}; train it by a Runner'
            )
        widths = self.sampler(time['iter'], time[clock[0]], time[clock[1]])
        return Iteration(time['iter'], time['iter'] / time['max_iters'], widths, _split(batch, self.micro_batches))

    def _train_width(
        self,
        width: float,
        parts: list[Part],
        layers: Sequence[SlimmableLayer],
        optim_wrapper: OptimWrapper,
        model: nn.Module,
        reduces: bool,
    ) -> Tensor:
        """Add the gradient of one width, reduced between processes where ``reduces``; return its loss."""
        losses = []
        for part in parts:
            last = reduces and part is parts[-1]
            waits = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()
            with waits, switch_layers(layers, [width] * len(layers), share=True):
                with optim_wrapper.optim_context(model):
                    arguments = self.loss_arguments(part, width)
                    found = model(part.inputs, part.data_samples, mode='loss', in_step=True, **arguments)
                    loss = found['loss'] / len(parts)
                optim_wrapper.backward(loss)  # in the block: checkpointing runs the forward again
            losses.append(loss.detach())
            if part.widest is None:
                part.widest = found['outputs']
        return sum(losses[1:], start=losses[0])

    def _update(self, width: float, iteration: Iteration, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Take an optimizer step, with the group regularisation; return what of that is to be logged."""
        logs = {}
        if self.group_reg is not None:
            parameters = [p for part in self.penalised(width) for p in part.parameters() if p.requires_grad]
            if iteration.number % self.log_interval == 0:
                logs['group_reg'] = self.group_reg.penalty(parameters, iteration.progress)
            scaler = getattr(optim_wrapper, 'loss_scaler', None)
            scale = None if scaler is None else scaler.scale(parameters[0].new_ones(()))
            self.group_reg.add_gradient(parameters, iteration.progress, scale)
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return logs


def _split(batch: Mapping[str, Any], count: int) -> list[Part]:
    """Equal parts of a preprocessed batch: ``inputs``, one tensor or several views, and ``data_samples``."""
    inputs, samples = batch['inputs'], batch.get('data_samples')
    if count == 1:
        return [Part(inputs, samples)]
    views = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    size, rest = divmod(len(views[0]), count)
    if rest:
        raise ValueError(
            f'micro_batches={count} must divide the images of each process, got {len(views[0])}; change batch_size, '
            'and set drop_last=True if this was the last batch of an epoch'
        )
    chunks = zip(*(view.chunk(count) for view in views))
    return [
        Part(
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
