"""Train several widths in one iteration, whatever the loss."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch._dynamo as dynamo
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from us3l_mm.registry import TASK_UTILS
from us3l_mm.slim import (
    SlimmableLayer,
    WidthSampler,
    check_choice,
    check_count,
    check_dict,
    check_flag,
    switch_layers,
    trace_channels,
)
from us3l_mm.utils.captured import Captured

from .group_reg import GroupRegularizer
from .iteration import Iteration, MicroBatch, split_batch

TASK_UTILS.register_module(module=WidthSampler)  # here, because slim knows no registry

CAN_COMPILE = hasattr(torch.compiler, 'is_compiling')  # PyTorch 2.3: sliced weights must know


class MultiWidthTraining(BaseModel):
    """Mixin that trains a model with a slimmable ``backbone`` at several widths an iteration.

    Put it before a model of mmengine and call :meth:`set_training` in the constructor. The model has a ``loss``,
    which returns at least ``loss``, a scalar, and ``outputs``, which the losses of narrower widths may use. It may
    override four hooks: :meth:`start_iteration`, :meth:`loss_arguments`, :meth:`extra_logs`, :meth:`penalised`.

    Attributes:
        slimmable_parts (tuple[str, ...]): Names of the modules that the width switches, in the order of their calls.
        log_interval (int): Iterations between two logged penalties, each of which costs a pass over all weights.
        on_pass (Callable, optional): Called before each forward pass with ``'student'`` or ``'teacher'``, its width and
            the inputs of the micro batch. Defaults to None.
        graphs (Captured, optional): What passes run through, set at the first iteration as ``speed`` says. Defaults to
            None.
    """

    slimmable_parts: tuple[str, ...] = ('backbone',)
    log_interval = 50
    on_pass: Callable[[str, float, Any], None] | None = None
    graphs: Captured | None = None

    def set_training(
        self,
        sampler: dict | None,
        group_reg: dict | None,
        update: str,
        by_epoch: bool,
        micro_batches: int = 1,
        speed: str = 'eager',
    ) -> None:
        """Set the widths, the regularisation and the update rule; arguments as for :class:`US3L`.

        The ``type`` of ``sampler`` defaults to :class:`us3l_mm.slim.WidthSampler`; a sampler of another type is called
        as that one is, and has its ``width_range`` and ``count``.

        Raises:
            TypeError: If an option is of the wrong type.
            ValueError: If an option is out of its range, the backbone cannot run at the lowest width, the number of
                widths is unlimited and ``speed`` not ``'eager'``, or PyTorch is too old to compile.
        """
        for name, options in (('sampler', sampler), ('group_reg', group_reg)):
            if options is not None:
                check_dict(name, options)
        self.sampler = TASK_UTILS.build({'type': 'us3l_mm.WidthSampler', **(sampler or {})})
        self.group_reg = None if group_reg is None else GroupRegularizer(**group_reg)
        self.update = check_choice('update', update, ('per_width', 'accumulate'))
        self.by_epoch = check_flag('by_epoch', by_epoch)
        self.micro_batches = check_count('micro_batches', micro_batches)
        self.speed = check_choice('speed', speed, ('eager', 'graphs', 'compiled'))
        if speed == 'compiled' and not CAN_COMPILE:
            raise ValueError(f"speed='compiled' needs PyTorch 2.3, got {torch.__version__}: set speed='eager'")
        if self.sampler.width_range[0] < 1:
            trace_channels(self.slimmable_part(), self.sampler.width_range[0])  # raises here rather than in training
        if speed != 'eager' and self.sampler.count is None:
            raise ValueError(
                f'speed={speed!r} needs few widths, each of which has graphs of its own: set sampler.width_step, such '
                'as 0.05, or sampler.widths'
            )
        if speed == 'compiled':  # beyond the limit torch runs uncompiled
            for limit in ('cache_size_limit', 'accumulated_cache_size_limit'):
                setattr(dynamo.config, limit, max(getattr(dynamo.config, limit), 4 * self.sampler.count))
            self.compile(dynamic=False)

    def slimmable_part(self) -> nn.Module:
        """Network from images to features that the width switches."""
        if len(self.slimmable_parts) == 1:
            return getattr(self, self.slimmable_parts[0])
        return nn.Sequential(OrderedDict((name, getattr(self, name)) for name in self.slimmable_parts))

    def start_iteration(self, iteration: Iteration) -> None:
        """Run before the first width, to check the batch for example."""

    def loss_arguments(self, batch: MicroBatch, width: float) -> dict:
        """Further arguments of ``loss`` at ``width``; ``batch.widest`` is None at the widest."""
        return {}

    def extra_logs(self, outputs: Any) -> dict[str, Tensor]:
        """Further values to log, from the ``outputs`` of the widest width."""
        return {}

    def penalised(self, width: float) -> list[nn.Module]:
        """Modules that group regularisation penalises in an update at ``width``."""
        return [self]

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor', **kwargs) -> Any:
        """Run the model; ``mode='loss'`` is for :meth:`run_step` alone, with the arguments of ``loss``.

        Raises:
            RuntimeError: If ``mode='loss'`` is used elsewhere, which would train one width only.
        """
        if mode != 'loss':
            return super().forward(inputs, data_samples, mode)
        if not kwargs.pop('in_step', False):
            raise RuntimeError(
                f'{type(self).__name__} trains several widths in its own train_step. For distributed training set '
                "model_wrapper_cfg=dict(type='us3l_mm.US3LDistributedDataParallel'); FSDP flattens weights, so it fails"
            )
        return self.loss(inputs, data_samples, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """Run one iteration on one process; see :meth:`run_step`."""
        return self.run_step(data, optim_wrapper, self)

    def run_step(self, data: Any, optim_wrapper: OptimWrapper, model: nn.Module) -> dict[str, Any]:
        """Run one iteration: draw widths, then train each.

        Args:
            data (Any): Batch of the data loader.
            optim_wrapper (OptimWrapper): Optimizer wrapper.
            model (nn.Module): What forward passes go through: the model itself or its DDP wrapper.

        Returns:
            dict: Values to log: losses by role, widths, penalty, :meth:`extra_logs`.

        Raises:
            RuntimeError: If it is called outside a Runner, which counts the iterations.
            ValueError: If the batch does not fit, the optimizer wrapper accumulates gradients, or ``speed='graphs'``
                cannot be had.
        """
        if getattr(optim_wrapper, '_accumulative_counts', 1) != 1:
            raise ValueError(
                f'accumulative_counts must be 1: {type(self).__name__} has its own schedule of updates; US3L trains '
                'large batches in parts by `micro_batches`'
            )
        with optim_wrapper.optim_context(model):
            batch = self.data_preprocessor(data, True)
        self._prepare_graphs(model)
        iteration = self._iteration(batch)
        self.start_iteration(iteration)
        layers = [layer for layer in self.slimmable_part().modules() if isinstance(layer, SlimmableLayer)]
        losses, logs = [], {}
        for index, width in enumerate(iteration.widths):
            updates = self.update == 'per_width' or index == len(iteration.widths) - 1
            losses.append(self._train_width(width, iteration.micro_batches, layers, optim_wrapper, model, updates))
            if index == 0:
                logs.update(self.extra_logs(iteration.micro_batches[-1].widest))
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
        return Iteration(time['iter'], time['iter'] / time['max_iters'], widths, split_batch(batch, self.micro_batches))

    def _train_width(
        self,
        width: float,
        batches: list[MicroBatch],
        layers: Sequence[SlimmableLayer],
        optim_wrapper: OptimWrapper,
        model: nn.Module,
        reduces: bool,
    ) -> Tensor:
        """Add the gradient of one width, with ``reduces`` that of all processes; return its loss."""
        losses = []
        for batch in batches:
            last = reduces and batch is batches[-1]
            waits = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()
            with waits:
                with optim_wrapper.optim_context(model):
                    arguments = self.loss_arguments(batch, width)
                if self.on_pass is not None:
                    self.on_pass('student', width, batch.inputs)

                def run(inputs: Any, data_samples: Any, arguments: dict) -> tuple[Tensor, Any]:
                    with switch_layers(layers, [width] * len(layers), share=True):
                        with optim_wrapper.optim_context(model):
                            found = model(inputs, data_samples, mode='loss', in_step=True, **arguments)
                            loss = found['loss'] / len(batches)
                        optim_wrapper.backward(loss)  # in the block: activation checkpointing repeats the forward
                    return loss.detach(), found['outputs']

                key = 'student', width, len(batches), optim_wrapper, model  # what `run` knows beside its arguments
                loss, outputs = self.run_pass(key, run, batch.inputs, batch.data_samples, arguments)
            losses.append(loss)
            if batch.widest is None:
                batch.widest = outputs
        return sum(losses[1:], start=losses[0])

    def run_pass(self, key: Hashable, function: Callable, *inputs: Any) -> Any:
        """Run ``function(*inputs)``, as a CUDA graph if the model has them; see :class:`Captured`."""
        return function(*inputs) if self.graphs is None else self.graphs(key, function, *inputs)

    def _prepare_graphs(self, model: nn.Module) -> None:
        """Make the CUDA graphs of this model, if it is to have them, and refuse what they would not repeat."""
        on_gpu = next(self.parameters()).is_cuda
        if self.speed == 'eager' or self.speed == 'compiled' and not on_gpu:
            return
        what = next(obstacles(self, model), None)
        if what is not None:
            raise ValueError(f"speed={self.speed!r} trains by CUDA graphs, which {what}, or set speed='eager'")
        if self.graphs is None:
            self.graphs = Captured(self)

    def _update(self, width: float, iteration: Iteration, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Take an optimizer step with group regularisation; return the penalty to log."""
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


def obstacles(model: MultiWidthTraining, wrapped: nn.Module) -> Iterator[str]:
    """Say what a model has that CUDA graphs would not repeat, with the fix."""
    if not next(model.parameters()).is_cuda:
        yield 'need a GPU: train on one'
    if wrapped is not model:
        yield f'run in one process without {type(wrapped).__name__}: train on one GPU'
    for name, part in model.named_modules():
        if getattr(part, 'with_cp', False):
            yield f'cannot repeat the forward passes of activation checkpointing: set with_cp=False in {name}'
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
            yield f'would not call the hooks of {name or "the model"}: remove them'
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            yield f'would not call the gradient hooks of {name}: remove them'


def _by_role(widths: list[float], losses: list[Tensor]) -> dict[str, Any]:
    """Losses and widths to log: the widest, the narrowest, and the mean of those between."""
    logs: dict[str, Any] = {'loss': sum(losses), 'loss_widest': losses[0], 'width_widest': widths[0]}
    if len(widths) > 1:
        logs.update(loss_narrowest=losses[-1], width_narrowest=widths[-1])
    if len(widths) > 2:
        between = slice(1, -1)
        logs['loss_random'] = torch.stack(losses[between]).mean()
        logs['width_random'] = sum(widths[between]) / (len(widths) - 2)
    return logs
