"""Embeddings of a fixed batch by a model in training, with their targets, which leave no trace in the training.

Shapes: N images, D embedding dimensions.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmpretrain.models.losses import CosineSimilarityLoss
from torch import Tensor, nn

from us3l_mm.engine.seeded_batches import seed_process
from us3l_mm.models import US3L
from us3l_mm.models.losses import NTXentLoss
from us3l_mm.models.multi_width import MicroBatch
from us3l_mm.slim import check_widths, use_width


@dataclass
class Guided:
    """Outputs of a width, and what they are trained towards.

    Attributes:
        loss (str): ``'mse'`` or ``'nce'``, the loss that the width is trained by.
        temperature (float): That of InfoNCE.
        pairs (list[tuple[Tensor, Tensor]]): For each view, what the loss gets: outputs and targets, both (N, D).
    """

    loss: str
    temperature: float
    pairs: list[tuple[Tensor, Tensor]]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put buffers of a model, such as statistics of batch norm, and all random states back at the end of the block."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        with torch.no_grad():
            for buffer, old in buffers:
                buffer.copy_(old)


def probe_views(dataset: Any, collate: Callable, preprocessor: nn.Module, num_images: int) -> list[Tensor]:
    """Load two views, each (N, 3, H, W), of images of a data set, the same ones whenever it is called.

    Args:
        dataset (Any): Data set of the training.
        collate (Callable): Makes a batch of a list of its items.
        preprocessor (nn.Module): Makes tensors of the batch.
        num_images (int): N.

    Raises:
        ValueError: If the data set has fewer images.
    """
    if len(dataset) < num_images:
        raise ValueError(f'num_images must be at most the {len(dataset)} images of the data set, got {num_images}')
    seed_process('probe of temporal consistency')
    chosen = np.random.permutation(len(dataset))[:num_images]
    return preprocessor(collate([dataset[int(index)] for index in chosen]), True)['inputs']


def check_guided(model: nn.Module, widths: Sequence[float]) -> None:
    """Check that the guidance of widths can be measured.

    Raises:
        TypeError: If the model is no :class:`US3L`, or a loss is neither MSE nor InfoNCE.
        ValueError: If a width is outside of those that the model trains.
    """
    if not isinstance(model, US3L):
        raise TypeError(f'temporal consistency is measured of models of type us3l_mm.US3L, got {type(model).__name__}')
    low, high = model.sampler.width_range
    outside = [width for width in check_widths('widths', widths) if not low <= width <= high]
    if outside:
        raise ValueError(f'widths must be in [{low:g}, {high:g}], the width_range of the sampler, got {outside}')
    for distill in (False, True):
        loss_of(model, distill)


def loss_of(model: US3L, distill: bool) -> tuple[str, float, nn.Module]:
    """Name, temperature and predictor of the base loss or of the distillation loss."""
    loss = (model.distill_loss if distill else None) or getattr(model.head, 'loss_module', None)
    predictor = (model.distill_predictor if distill else None) or model.head.predictor
    if isinstance(loss, NTXentLoss):
        return 'nce', loss.temperature, predictor
    if isinstance(loss, CosineSimilarityLoss):
        return 'mse', 0.5, predictor
    raise TypeError(f'temporal consistency knows CosineSimilarityLoss (MSE) and us3l_mm.NTXentLoss, got {loss!r:.200}')


@torch.no_grad()
def guidance(model: US3L, views: Sequence[Tensor], widths: Sequence[float]) -> dict[float, Guided]:
    """Embed two views (N, 3, H, W) at several widths, with the targets that the config gives each.

    The widest width of the sampler takes the base loss, the others the distillation loss, if there is one, as in
    training. Batch norm is in the mode of the model; call it within :func:`undisturbed`.
    """
    widest = model.sampler.width_range[1]
    batch, found = MicroBatch(views), {}
    for width in dict.fromkeys([widest, *widths]):
        with use_width(model.slimmable_part(), width):
            embeddings = [model.neck(model.backbone(view))[0] for view in views]
        arguments = model.loss_arguments(batch, width)
        targets = embeddings if arguments['targets'] is None else arguments['targets']
        batch.widest = embeddings if batch.widest is None else batch.widest
        name, temperature, predictor = loss_of(model, arguments['distill'])
        outputs = [predictor([embedding])[0] for embedding in embeddings]
        found[width] = Guided(name, temperature, list(zip(outputs, targets[::-1], strict=True)))
    return {width: found[width] for width in widths}
