"""Batch normalisation that never mixes the statistics of different widths.

Shapes: N images of a process, C channels, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from .layers import SlimmableLayer, check_input
from .options import arguments_of, check_count, check_flag, check_number
from .plain_layers import take_tensors
from .width import Width, parse_key, width_key, width_label

_MEAN, _VAR = 'running_mean_', 'running_var_'  # of one width, whose key follows
_FULL = width_key(1.0)


def _several_processes() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _synchronised(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise (N, C, ...) by the batch of all processes, whose N may differ, with one all-reduce each way.

    ``torch.nn.SyncBatchNorm`` cannot slice parameters, needs GPUs, and gathers, which costs more with each process.
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


def check_batch_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise an error that names the option of :class:`torch.nn.BatchNorm2d` at fault; torch checks none."""
    given = arguments_of(nn.BatchNorm2d, args, kwargs)
    check_count('num_features', given['num_features'])
    check_number('eps', given['eps'], '[1e-12, inf)')  # less is zero beside a variance in float32
    if given['momentum'] is not None:
        check_number('momentum', given['momentum'], '[0, 1]')
    for name in ('affine', 'track_running_stats'):
        check_flag(name, given[name])


class UncalibratedError(RuntimeError):
    """A batch norm has no statistics of the width that it is evaluated at."""


class SlimmableBatchNorm2d(SlimmableLayer, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` with sliced affine parameters and statistics per width.

    Training normalises by the batch and keeps no running statistics. Evaluation needs statistics of exactly that
    width, measured by :func:`us3l_mm.slim.calibrate_bn` or loaded from a checkpoint. Width 1.0 keeps them in
    ``running_mean`` and ``running_var``, as stock checkpoints do; a width w adds ``running_mean_<w>`` and
    ``running_var_<w>``.

    A layer that a backbone holds in evaluation mode while it trains (``norm_eval``, ``frozen_stages``) normalises by
    stored statistics there too, and needs those of each width that is trained.

    Args:
        sync (bool): Whether training normalises by the joint batch of all processes. Calibration uses the batches
            of its own process only. Defaults to False.
        *args: As for :class:`torch.nn.BatchNorm2d`; ``momentum`` has no effect.
        **kwargs: As for :class:`torch.nn.BatchNorm2d`.

    Attributes:
        calibrated (set[str]): Keys of the widths whose statistics fit the current weights.
        frozen (bool): Whether the backbone trains while this layer is in evaluation mode.
    """

    lowered = False
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, *args, sync: bool = False, **kwargs) -> None:
        check_batch_norm(args, kwargs)
        super().__init__(*args, **kwargs)
        if not self.track_running_stats:
            raise ValueError('SlimmableBatchNorm2d needs track_running_stats=True (it stores statistics per width)')
        self.sync = check_flag('sync', sync)
        self.calibrated: set[str] = set()
        self.frozen = False
        self.update_rate: float | None = None  # set while calibrate_bn runs
        self.measured: set[str] = set()  # keys of the widths that it has measured so far

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) or (N, C), C at most ``num_features``."""
        channels = x.size(1)
        check_input(self, channels, self.num_features)
        mean = var = weight = bias = None
        if not self.training:
            mean, var = self.statistics()
        elif self.update_rate is not None:
            mean, var = self._buffers_of(self.statistics_key, channels)
            self.measured.add(self.statistics_key)
        elif self.calibrated and torch.is_grad_enabled():
            self.forget()  # training changes the weights that the statistics describe
        if self.affine:
            weight, bias = self.sliced(channels)
        if self.sync and self.training and mean is None and not x.is_meta and _several_processes():
            return _synchronised(x, weight, bias, self.eps)
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.update_rate or 0.0, self.eps)

    def statistics(self, width: Width | None = None) -> tuple[Tensor, Tensor]:
        """Calibrated mean and variance of a width, by default the current one, each of shape (c(width),).

        Raises:
            UncalibratedError: If that width is not calibrated.
        """
        key = self.statistics_key if width is None else width_key(width)
        if key not in self.calibrated:
            have = ', '.join(sorted(width_label(parse_key(known)) for known in self.calibrated)) or 'none'
            label = width_label(parse_key(key))
            measure = f'easure them by `us3l calibrate CONFIG CHECKPOINT --widths {label}`'
            fix = f'. M{measure}, or train a net of that one width (`width` of the backbone), which keeps its own'
            if self.frozen:
                fix = (
                    ', by which norm_eval or frozen_stages of the backbone lets it train. Set norm_eval=False and '
                    f'frozen_stages=-1, or m{measure}'
                )
            raise UncalibratedError(f'BatchNorm has no statistics for width {label} (calibrated: {have}){fix}')
        return self._buffers_of(key)

    def dense(self, in_channels: int, with_statistics: bool = True) -> nn.BatchNorm2d:
        """Build the dense batch norm of ``in_channels`` channels; see :meth:`SlimmableLayer.dense`."""
        if with_statistics:
            mean, var = self.statistics()
        else:
            mean, var = self.running_mean.new_zeros(in_channels), self.running_var.new_ones(in_channels)
        plain = nn.BatchNorm2d(in_channels, self.eps, self.momentum, self.affine, device='meta')
        own = {name: whole[:in_channels] for name, whole in self._parameters.items() if whole is not None}
        counted = self.num_batches_tracked
        if not with_statistics and not self.frozen:  # a checkpoint would take them for meant
            counted = torch.zeros_like(counted)
        own |= dict(running_mean=mean, running_var=var, num_batches_tracked=counted)
        return take_tensors(plain, self, **own)

    def keep_initial_statistics(self) -> None:
        """Take the initial zeros and ones as the statistics of width 1.0, in checkpoints too, as a stock net does.

        Right only for a new layer that trains in evaluation mode: no batch then changes what these values mean.
        """
        self.num_batches_tracked.fill_(1)  # by which a checkpoint tells them from statistics that are not measured
        self.calibrated.add(_FULL)

    def forget(self, width: Width | None = None) -> None:
        """Drop the statistics of one width, or of all of them."""
        if width is None:
            keys = {_FULL, *self.calibrated, *(name[len(_MEAN) :] for name in self._buffers if name.startswith(_MEAN))}
        else:
            keys = {width_key(width)}
        for key in keys:
            if key == _FULL:
                self.reset_running_stats()
            else:
                self._buffers.pop(_MEAN + key, None)
                self._buffers.pop(_VAR + key, None)
        self.calibrated -= keys

    def _buffers_of(self, key: str, channels: int = 0) -> tuple[Tensor, Tensor]:
        """Mean and variance of a width; new buffers of ``channels`` values if there are none."""
        if key == _FULL:
            return self.running_mean, self.running_var
        mean, var = self._buffers.get(_MEAN + key), self._buffers.get(_VAR + key)
        if mean is None or var is None:
            mean, var = self.running_mean.new_zeros(channels), self.running_var.new_ones(channels)
            self.register_buffer(_MEAN + key, mean)
            self.register_buffer(_VAR + key, var)
        return mean, var

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        own = {key[len(prefix) :]: tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
        if own:
            self.forget()  # measured statistics belong to the old weights
        given = {name: tensor for name, tensor in own.items() if name.startswith((_MEAN, _VAR))}
        for key in {name.removeprefix(_MEAN).removeprefix(_VAR) for name in given}:
            pair = [_MEAN + key, _VAR + key]
            like = next(given[name] for name in pair if name in given)
            for name in pair:
                self.register_buffer(name, self.running_mean.new_empty(like.shape))
            if given.keys() >= set(pair):  # one alone: torch reports the other as missing
                self.calibrated.add(key)
        super()._load_from_state_dict(state_dict, prefix, *args)
        # Real statistics are never exactly the initial zeros and ones; num_batches_tracked can't tell, since older
        # checkpoints lack it and training by batches does not count. It tells initial ones that are meant.
        if own and not self.running_mean.is_meta:
            batches = self.num_batches_tracked
            if self.running_mean.any() or (self.running_var != 1).any() or not batches.is_meta and batches > 0:
                self.calibrated.add(_FULL)
