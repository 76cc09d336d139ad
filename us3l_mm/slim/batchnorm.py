"""Batch normalisation that never mixes the statistics of different widths.

Shapes: N images of a process, C channels, H x W pixels.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from .layers import SlimmableLayer, _check_input, take_tensors, width_key, width_label


def _several_processes() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _synchronised(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise (N, C, ...) by the batch of all processes, whose N may differ; one collective each way.

    ``torch.nn.SyncBatchNorm`` has no sliced parameters, runs on GPUs only, and gathers, which grows with their number.
    """
    with torch.autocast(x.device.type, enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [axis for axis in range(x.dim()) if axis != 1]
        var, mean = torch.var_mean(wide, axes, correction=0)
        mean, var = mean.double(), var.double()  # the variance is a small difference of the sums below
        count = torch.full_like(mean, x.numel() // x.size(1))
        count, total, squares = all_reduce(torch.stack([count, count * mean, count * (var + mean**2)]))  # (C,) each
        mean = total / count
        var = (squares / count - mean**2).to(wide.dtype)
        mean = mean.to(wide.dtype)
        scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        shape = [1, -1, *[1] * (x.dim() - 2)]
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)


class SlimmableBatchNorm2d(SlimmableLayer, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` with sliced affine parameters and statistics per width.

    Training always normalises by the batch and keeps no running statistics. Evaluation uses statistics
    that :func:`us3l_mm.slim.calibrate_bn` has measured at the very width, or that came with a checkpoint.
    Width 1.0 keeps them in the usual ``running_mean`` and ``running_var``, so that checkpoints of plain
    networks fit both ways; another width w adds ``running_mean_<w>`` and ``running_var_<w>``.

    Args:
        sync (bool): Whether training normalises by the batch of all processes, as one process would that had all of
            it. Calibration stays that of the process that makes it. Defaults to False.
        *args: As for :class:`torch.nn.BatchNorm2d`; ``momentum`` has no effect.
        **kwargs: As for :class:`torch.nn.BatchNorm2d`.

    Attributes:
        calibrated (set[str]): Keys of the widths whose statistics describe the present weights.
    """

    lowered = False
    _per_width = ('running_mean_', 'running_var_')

    def __init__(self, *args, sync: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not self.track_running_stats:
            raise ValueError('SlimmableBatchNorm2d needs track_running_stats=True (it stores statistics per width)')
        self.sync = sync
        self.calibrated: set[str] = set()
        self.update_rate: float | None = None  # set while calibrate_bn runs
        self.measured: set[str] = set()  # widths that it has seen so far

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) or (N, C), C at most ``num_features``."""
        channels = x.size(1)
        _check_input(self, channels, self.num_features)
        mean = var = None
        if not self.training:
            mean, var = self.statistics(self.mixed or self.width)
        elif self.update_rate is not None:
            mean, var = self._buffers_of(self.mixed or self.width, channels)
            self.measured.add(width_key(self.mixed or self.width))
        elif self.calibrated and torch.is_grad_enabled():
            self.forget()  # training changes the weights that the statistics describe
        weight, bias = self.sliced('weight', channels), self.sliced('bias', channels)
        if self.sync and self.training and mean is None and not x.is_meta and _several_processes():
            return _synchronised(x, weight, bias, self.eps)
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.update_rate or 0.0, self.eps)

    def statistics(self, width: float | Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """Calibrated mean and variance at ``width``, each of shape (c(width),).

        Raises:
            RuntimeError: If that width was not calibrated; the message names the command that does it.
        """
        if width_key(width) not in self.calibrated:
            have = ', '.join(sorted(key.replace('_', '.') for key in self.calibrated)) or 'none'
            label = width_label(width)
            raise RuntimeError(
                f'BatchNorm has no statistics for width {label} (calibrated: {have}). Measure them with '
                f'`python tools/calibrate_bn.py CONFIG CHECKPOINT --widths {label}` or us3l_mm.slim.calibrate_bn'
            )
        return self._buffers_of(width)

    def dense(self, in_channels: int, with_statistics: bool = True) -> nn.BatchNorm2d:
        """Plain batch norm of ``in_channels``; see :meth:`SlimmableLayer.dense`."""
        if with_statistics:
            mean, var = self.statistics(self.mixed or self.width)
        else:
            mean, var = self.running_mean.new_zeros(in_channels), self.running_var.new_ones(in_channels)
        return take_tensors(
            nn.BatchNorm2d(in_channels, self.eps, self.momentum, self.affine, device='meta'),
            self,
            weight=self.weight[:in_channels] if self.affine else None,
            bias=self.bias[:in_channels] if self.affine else None,
            running_mean=mean,
            running_var=var,
            num_batches_tracked=self.num_batches_tracked,
        )

    def forget(self, width: float | Mapping[str, float] | None = None) -> None:
        """Drop the statistics of one width, or of all of them."""
        if width is None:
            for name in [n for n in self._buffers if n.startswith(self._per_width)]:
                delattr(self, name)
            self.calibrated.clear()
        elif width != 1.0:
            for name in self._per_width:
                self._buffers.pop(name + width_key(width), None)
        if width in (None, 1.0):
            self.reset_running_stats()
        if width is not None:
            self.calibrated.discard(width_key(width))

    def _buffers_of(self, width: float | Mapping[str, float], channels: int | None = None) -> tuple[Tensor, Tensor]:
        """Buffers of a width; made if they are missing and ``channels`` is given."""
        if width == 1.0:
            return self.running_mean, self.running_var
        names = [name + width_key(width) for name in self._per_width]
        if names[0] not in self._buffers:
            self.register_buffer(names[0], self.running_mean.new_zeros(channels))
            self.register_buffer(names[1], self.running_var.new_ones(channels))
        return self._buffers[names[0]], self._buffers[names[1]]

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        own = [key for key in state_dict if key.startswith(prefix)]
        if own:
            self.forget()  # whatever was measured belongs to other weights
        found = {own_key for own_key in own if own_key.startswith(tuple(prefix + name for name in self._per_width))}
        for width in {re.sub(r'^running_(mean|var)_', '', key[len(prefix) :]) for key in found}:
            names = [name + width for name in self._per_width]
            like = next(state_dict[prefix + name] for name in names if prefix + name in found)
            for name in names:
                self.register_buffer(name, self.running_mean.new_empty(like.shape))
            if all(prefix + name in found for name in names):  # one alone: torch reports the other as missing
                self.calibrated.add(width)
        super()._load_from_state_dict(state_dict, prefix, *args)
        # Real statistics are never exactly the initial zeros and ones; num_batches_tracked can't tell,
        # since older checkpoints don't have it.
        if own and not self.running_mean.is_meta and (self.running_mean.any() or (self.running_var != 1).any()):
            self.calibrated.add(width_key(1.0))
