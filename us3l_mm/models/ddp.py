"""US3L under DistributedDataParallel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from us3l_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class US3LDistributedDataParallel(MMDistributedDataParallel):
    """Runs :meth:`US3L.run_step` with forward passes through DDP.

    mmengine's wrapper bypasses the model's ``train_step``; this one does not.

    Args:
        module (nn.Module): The model.
        find_unused_parameters (bool, optional): Whether DDP searches each graph for parameters without a gradient.
            Defaults to None: only if the model does not know its :meth:`MultiWidthTraining.idle_parts`.
        broadcast_buffers (bool): Defaults to False: training changes no buffers.
        **kwargs: As for :class:`torch.nn.parallel.DistributedDataParallel`.
    """

    def __init__(
        self, module: nn.Module, find_unused_parameters: bool | None = None, broadcast_buffers: bool = False, **kwargs
    ) -> None:
        if find_unused_parameters is None:
            find_unused_parameters = module.idle_parts(narrower=True) is None
        if next(module.parameters()).device.type == 'cpu':
            kwargs.pop('device_ids', None)  # mmengine passes the local rank, which DDP refuses on a CPU
        super().__init__(
            module,
            find_unused_parameters=find_unused_parameters,
            broadcast_buffers=broadcast_buffers,
            **kwargs,
        )
        self._idle: list[nn.Parameter] = []

    def forward(self, *args, **kwargs) -> Any:
        """As for the model; the loss touches idle parameters, for whose gradients DDP would wait for ever."""
        outputs = super().forward(*args, **kwargs)
        if self._idle:
            outputs['loss'] = outputs['loss'] + sum(0 * parameter.flatten()[0] for parameter in self._idle)
        return outputs

    @contextmanager
    def reduction(self, now: bool, idle: list[nn.Module] | None) -> Iterator[None]:
        """Scope of one forward and backward pass.

        Args:
            now (bool): Whether the backward pass reduces what gradients there are by then; else they wait.
            idle (list[nn.Module], optional): See :meth:`MultiWidthTraining.idle_parts`. Parameters that had no
                gradient have none afterwards, so that the optimizer leaves them alone, as on one process.
        """
        if not now:
            with self.no_sync():
                yield
            return
        if not self.find_unused_parameters:
            self._idle = [p for part in idle or [] for p in part.parameters() if p.requires_grad]
        without = [parameter for parameter in self._idle if parameter.grad is None]
        try:
            yield
        finally:
            self._idle = []
        for parameter in without:
            parameter.grad = None

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One iteration; see :meth:`US3L.run_step`."""
        return self.module.run_step(data, optim_wrapper, self)
