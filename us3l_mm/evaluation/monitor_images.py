"""Images that a monitor looks at, the same ones each time."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from us3l_mm.engine.quiet_worker import quieten
from us3l_mm.engine.seeded_batches import SeededBatch

BATCH = 128  # images at a time


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give the random states of Python, NumPy and torch back at the end of a block."""
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def _first_iteration() -> Iterator[None]:
    """Tell the first iteration, by which views are drawn that are made on the device."""
    hub = MessageHub.get_current_instance()
    now = hub.get_info('iter', 0)
    hub.update_info('iter', 0)
    try:
        yield
    finally:
        hub.update_info('iter', now)


class MonitorImages:
    """Images drawn once from a data set, kept in memory as its pipeline makes them.

    Args:
        dataset (Dataset): Data set.
        count (int): Images to draw; all if it has no more.
        seed (int): Seed of the draw, and of the random transforms.
        collate (Callable): Makes a batch of several. Defaults to mmengine's ``default_collate``.
        workers (int): Processes that load them; the images do not depend on it. Defaults to 0: none.

    Attributes:
        batches (list[dict]): Batches of at most 128 images.
    """

    def __init__(
        self,
        dataset: Dataset,
        count: int,
        seed: int,
        collate: Callable[[Sequence[Any]], dict] = default_collate,
        workers: int = 0,
    ) -> None:
        chosen = random.Random(f'{seed}/monitor').sample(range(len(dataset)), min(count, len(dataset)))
        parts = np.array_split(chosen, -(-len(chosen) // BATCH))  # no batch of one image
        batches = [SeededBatch(part.tolist(), (seed, 'monitor', number)) for number, part in enumerate(parts)]
        loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers)
        quieten(loader)
        with kept_random_state():
            self.batches = list(loader)

    def views(self, preprocessor: BaseDataPreprocessor) -> Iterator[list[Tensor]]:
        """Two views of each image, or one if training has no more; (N, 3, H, W) each."""
        for batch in self.batches:
            with _first_iteration():
                inputs = preprocessor(dict(batch), True)['inputs']
            yield list(inputs[:2]) if isinstance(inputs, (list, tuple)) else [inputs]

    def images(self, preprocessor: BaseDataPreprocessor) -> Iterator[Tensor]:
        """Images of shape (N, 3, H, W), as tests have them."""
        for batch in self.batches:
            inputs = preprocessor(dict(batch), False)['inputs']
            yield inputs[0] if isinstance(inputs, (list, tuple)) else inputs

    def labels(self) -> Tensor:
        """Labels of all images, (N,).

        Raises:
            ValueError: If an image has none.
        """
        samples = [sample for batch in self.batches for sample in batch['data_samples'] or [None]]
        if not all('gt_label' in (sample or ()) for sample in samples):
            raise ValueError(
                'dataset of us3l_mm.MonitorHook needs labels, and an image has none; choose a labelled data set, or '
                'dataset=None'
            )
        return torch.cat([sample.gt_label for sample in samples])
