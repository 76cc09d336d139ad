"""Batches whose random draws depend on their place in the training alone, so that it can go on at any of them."""

import hashlib
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

REMEMBERED = 128  # batches, more than workers fetch in advance


def seed_process(*place: object) -> None:
    """Seed Python, NumPy and torch by a hash of ``place``, such as (seed, rank, iteration, purpose)."""
    digest = hashlib.blake2b('/'.join(map(str, place)).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, 'little')
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


class SeededBatch(list):
    """Indices of a batch, which seed the process that loads them when it goes through them.

    Data-loading workers get them from torch as they are, so a batch is augmented alike by whichever worker, by any
    number of workers or by none.

    Args:
        indices (Iterable[int]): Indices of the images.
        place (tuple): What seeds, see :func:`seed_process`.
    """

    def __init__(self, indices: Iterable[int], place: tuple) -> None:
        super().__init__(indices)
        self.place = place

    def __iter__(self) -> Iterator[int]:
        seed_process(*self.place)
        return super().__iter__()

    def __reduce__(self) -> tuple:
        return SeededBatch, (self[:], self.place)  # list's own way would go through them in the sender


class SeededBatchSampler(Sampler):
    """Batches of another batch sampler, as :class:`SeededBatch`, from any iteration on.

    Args:
        sampler (Sampler): Sampler of indices.
        batch_size (int): Images a batch.
        batch_sampler (dict, optional): Config of the batch sampler. Defaults to None: torch's ``BatchSampler``.
        drop_last (bool): Whether torch's leaves out a last batch that is smaller. Defaults to False.
        endless (bool): Whether to start again after the last batch. Defaults to False.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        batch_sampler: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.endless = endless
        if batch_sampler is None:
            self.batches: Any = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batches = MMENGINE_DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self._indices: OrderedDict[int, list[int]] = OrderedDict()  # by iteration, over passes
        self.start((), 0)

    def start(self, place: tuple, first: int, skip: int = 0) -> None:
        """Set where the next pass starts.

        Args:
            place (tuple): What seeds beside the iteration: the seed of the run and the rank.
            first (int): Iteration of the first batch of the pass.
            skip (int): Batches of the pass to leave out; their images are not loaded. Defaults to 0.
        """
        self.place = place
        self.first = first
        self.skip = skip

    def indices_of(self, iteration: int) -> list[int] | None:
        """Indices of the images of a recent iteration, or None if it is long ago."""
        return self._indices.get(iteration)

    def __len__(self) -> int:
        """Batches in a pass."""
        return len(self.batches)

    def __iter__(self) -> Iterator[SeededBatch]:
        for iteration, indices in enumerate(self._passes(), self.first):
            if iteration < self.first + self.skip:
                continue
            self._indices[iteration] = list(indices)
            if len(self._indices) > REMEMBERED:
                self._indices.popitem(last=False)
            yield SeededBatch(indices, (*self.place, iteration, 'images'))

    def _passes(self) -> Iterator[list[int]]:
        yield from self.batches
        epoch = 0
        while self.endless:
            epoch += 1
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            yield from self.batches
