"""What a training shows on the screen before its first epoch: a summary in place of what is for the log file."""

import logging
import os
import re
from itertools import count
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn

from us3l_mm.models.multi_width import MultiWidthTraining
from us3l_mm.slim import WidthSampler, width_label
from us3l_mm.utils.commit import package_commit
from us3l_mm.version import __version__

from .schedule_timer_hook import schedule_costs

# Messages of mmengine: hundreds of lines of settings, its name of the run at every epoch, and what is for developers.
_FOR_THE_FILE = (
    'Config:\n',
    'Hooks will be executed in the following order:',
    'Distributed training is not used, all SyncBatchNorm',
    'Exp name: ',
    'Checkpoints will be saved to ',  # the summary says so
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
# The environment, and where each single weight comes from.
_SETTINGS = re.compile(r'\n(-+\nSystem environment:|\S+ - torch\.Size\()')


def keep_settings_off_screen(logger: logging.Logger) -> None:
    """Let a logger write mmengine's messages about environment, config, hooks and weights to its files only."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_for_the_screen)


def _for_the_screen(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return not text.startswith(_FOR_THE_FILE) and not _SETTINGS.match(text)


def start_summary(runner: Runner, loop: BaseLoop) -> str:
    """Say in a few lines what a Runner is about to train, on what, at which widths, at what cost, and where it goes.

    ``tools/report.py`` reads the first line.

    Args:
        runner (Runner): Runner with its model.
        loop (BaseLoop): Its training loop.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    images = len(loop.dataloader.dataset)
    commit = package_commit()
    where = f', commit {commit}' if commit else ''
    head = f'us3l_mm {__version__}{where}; {images} training images; {os.cpu_count()} CPU cores'
    facts = dict(
        config=runner.cfg.filename,
        model=_model_text(model),
        data=_data_text(loop, runner.world_size),
        widths=_width_text(model, loop),
        cost=_cost_text(model, loop),
        seed=runner.seed,
        output=f'{runner.work_dir}; environment, whole config and hooks: {runner.timestamp}/{runner.timestamp}.log',
    )
    return '\n'.join([head, *(f'  {name:8}{text}' for name, text in facts.items() if text not in (None, ''))])


def short_schedule(runner: Runner, loop: BaseLoop) -> str:
    """Say which widths are never trained since training is shorter than the stages of sampling; empty if none."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, MultiWidthTraining) or _lowest(model, loop) <= model.sampler.width_range[0] + 1e-9:
        return ''
    sampler, (length, unit) = model.sampler, _length(model, loop)
    enough = next(n for n in count(length + 1) if sampler.lowest(n - 1, n) <= sampler.width_range[0] + 1e-9)
    more = f'--epochs {enough}' if model.by_epoch else f'train_cfg.max_iters={enough} by --cfg-options'
    return (
        f'{length} {unit}{"" if length == 1 else "s"} cannot hold all stages of the widths: none below '
        f'{width_label(_lowest(model, loop))} is trained; give {more} or more'
    )


def _length(model: MultiWidthTraining, loop: BaseLoop) -> tuple[int, str]:
    """What the stages are counted in, and how many of it there are."""
    return (loop.max_epochs, 'epoch') if model.by_epoch else (loop.max_iters, 'iteration')


def _lowest(model: MultiWidthTraining, loop: BaseLoop) -> float:
    """Lowest width that is drawn: that of the end, since it falls."""
    sampler, (length, _) = model.sampler, _length(model, loop)
    return sampler.lowest(length - 1, length) if isinstance(sampler, WidthSampler) else sampler.width_range[0]


def _model_text(model: nn.Module) -> str:
    backbone = getattr(model, 'backbone', None)
    name, whole, device = type(model).__name__, _size_text(model), next(model.parameters()).device
    if backbone is None:
        return f'{name}, {whole} trained parameters, on {device}'
    return (
        f'{name}, {whole} trained parameters, {_size_text(backbone)} of them in {type(backbone).__name__}, on {device}'
    )


def _size_text(part: nn.Module) -> str:
    return f'{sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad) / 1e6:.3g} M'


def _data_text(loop: BaseLoop, devices: int) -> str:
    data: Any = loop.dataloader.dataset
    images = len(data)
    while hasattr(data, 'dataset'):  # below what wraps it
        data = data.dataset
    where = f' in {data.data_root}' if getattr(data, 'data_root', None) else ''
    size = getattr(loop.dataloader.batch_sampler, 'batch_size', None)
    batches = f', batches of {size}' if size else ''
    each = f' on each of {devices} devices' if devices > 1 else ''
    return f'{type(data).__name__}{where}: {images} images{batches}{each}'


def _width_text(model: nn.Module, loop: BaseLoop) -> str:
    if isinstance(model, MultiWidthTraining):
        sampler, low = model.sampler, _lowest(model, loop)
        high = sampler.width_range[1]
        if getattr(sampler, 'widths', None):
            return ' '.join(width_label(width) for width in sampler.widths if width >= low - 1e-9)
        if low == high:
            return f'{width_label(high)} alone'
        stages = ''
        if getattr(sampler, 'dynamic', False) and low == sampler.width_range[0]:
            stages = f', the lowest in {sampler.num_stages} stages'
        return f'{width_label(low)} to {width_label(high)}{stages}'
    width = getattr(getattr(model, 'backbone', None), 'width', None)
    return '' if width is None else f'{width_label(width)} alone'


def _cost_text(model: nn.Module, loop: BaseLoop) -> str:
    """Length of the training and, of several widths, its cost in T, which is that of the full width alone."""
    length = f'{loop.max_epochs} epochs, ' if loop.max_epochs > 1 else ''  # 1 where iterations are counted
    length += f'{loop.max_iters} iterations'
    if not isinstance(model, MultiWidthTraining):
        return length
    passes, macs = (
        schedule_costs(model, loop.max_iters, loop.max_epochs, power)[1][-1] / loop.max_iters for power in (0, 2)
    )
    return f'{length}; {passes:.3g} T by passes, about {macs:.3g} T by MACs (T: the full width alone)'
