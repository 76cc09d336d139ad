"""Measure batch-norm statistics of each width after training."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .batchnorm import SlimmableBatchNorm2d
from .scope import use_width
from .switchable import SwitchableBatchNorm2d
from .width import Width, check_width, check_widths, parse_key, width_key


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Put slimmable batch norms into training mode and everything else into evaluation mode, for a block."""
    modes = {layer: layer.training for layer in module.modules()}
    try:
        for layer in modes:
            layer.training = isinstance(layer, SlimmableBatchNorm2d)
        yield
    finally:
        for layer, training in modes.items():
            layer.training = training


@torch.no_grad()
def calibrate_bn(module: nn.Module, widths: Sequence[Width], batches: Iterable[Tensor]) -> int:
    """Measure the statistics of all slimmable batch norms at each of ``widths``.

    The statistics are the cumulative average of those of the batches (unbiased variance), as
    :class:`torch.nn.BatchNorm2d` keeps them with ``momentum=None``. One pass over the data serves all
    widths. Everything else, such as dropout, runs in evaluation mode.

    Args:
        module (nn.Module): Network that maps a batch of images to anything.
        widths (Sequence[Width]): Widths to measure, each as for :func:`use_width`, none twice.
        batches (Iterable[Tensor]): Preprocessed images, each of shape (N, C, H, W) with N > 1.

    Returns:
        int: Number of batches seen.

    Raises:
        ValueError: If there is no slimmable batch norm, no width, one twice, no batch or a batch of one image.
            An error in the middle leaves these widths without statistics.

    Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019.
    """
    widths = check_widths('widths', widths, check_width)
    norms = [layer for layer in module.modules() if isinstance(layer, SlimmableBatchNorm2d)]
    if not norms:
        raise ValueError(
            f'nothing to calibrate: {type(module).__name__} has no slimmable batch norm, so it needs no calibration'
        )
    for norm in norms:
        norm.measured.clear()
        for width in widths:
            norm.forget(width)
    try:
        with batch_statistics(module):
            count = _measure(module, norms, widths, batches)
        for norm in norms:
            norm.calibrated |= norm.measured  # a norm that no batch has reached stays without statistics
    except BaseException:
        for norm in norms:
            for width in widths:
                norm.forget(width)
        raise
    finally:
        for norm in norms:
            norm.update_rate = None
    return count


def calibrated_widths(module: nn.Module) -> list[float] | None:
    """List the widths for which every batch norm has statistics, from the widest; None if there is no batch norm.

    Widths of parts are left out; see :func:`use_width`.
    """
    keys = [layer.calibrated for layer in module.modules() if isinstance(layer, SlimmableBatchNorm2d)]
    keys += [{width_key(1.0), *layer.private} for layer in module.modules() if isinstance(layer, SwitchableBatchNorm2d)]
    if not keys:
        return None
    widths = map(parse_key, set.intersection(*keys))
    return sorted((width for width in widths if isinstance(width, float)), reverse=True)


def _measure(
    module: nn.Module, norms: Sequence[SlimmableBatchNorm2d], widths: Sequence[Width], batches: Iterable[Tensor]
) -> int:
    """Average the statistics of ``norms`` over batches; return how many there were."""
    device = norms[0].running_mean.device
    count = 0
    for count, batch in enumerate(batches, start=1):
        if batch.size(0) < 2:
            raise ValueError(f'calibration needs at least 2 images a batch, batch {count} has {batch.size(0)}')
        for norm in norms:
            norm.update_rate = 1 / count
        for width in widths:
            with use_width(module, width):
                module(batch.to(device))
    if not count:
        raise ValueError('calibration got no batch of images; is the data set smaller than one batch?')
    return count
