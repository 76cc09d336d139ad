"""DistributedDataParallel for models of several widths."""

from typing import Any

from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from us3l_mm.registry import MODEL_WRAPPERS
from us3l_mm.slim import check_flag

from .training import MultiWidthTraining


@MODEL_WRAPPERS.register_module()
class US3LDistributedDataParallel(MMDistributedDataParallel):
    """Run :meth:`MultiWidthTraining.run_step` with forward passes through DDP; other models as mmengine does.

    mmengine's wrapper bypasses the model's ``train_step``. Its FSDP wrapper cannot be used: FSDP flattens weights, and
    group regularisation needs their channels.

    Args:
        module (nn.Module): The model.
        find_unused_parameters (bool, optional): Whether DDP searches each graph for parameters without a gradient.
            Defaults to None: only for models of several widths, which use different heads.
        broadcast_buffers (bool): Defaults to False: training changes no buffers.
        **kwargs: As for :class:`torch.nn.parallel.DistributedDataParallel`.
    """

    def __init__(
        self, module: nn.Module, find_unused_parameters: bool | None = None, broadcast_buffers: bool = False, **kwargs
    ) -> None:
        if find_unused_parameters is None:
            find_unused_parameters = isinstance(module, MultiWidthTraining)
        check_flag('find_unused_parameters', find_unused_parameters)
        check_flag('broadcast_buffers', broadcast_buffers)
        if next(module.parameters()).device.type == 'cpu':
            kwargs.pop('device_ids', None)  # mmengine passes the local rank, which DDP refuses on a CPU
        kwargs |= dict(find_unused_parameters=find_unused_parameters, broadcast_buffers=broadcast_buffers)
        super().__init__(module, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Run one iteration of the model."""
        if isinstance(self.module, MultiWidthTraining):
            return self.module.run_step(data, optim_wrapper, self)
        return super().train_step(data, optim_wrapper)
