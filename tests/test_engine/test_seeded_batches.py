"""Random draws depend on the place of a batch in the training, and on nothing else."""

import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from us3l_mm.engine.seeded_batches import REMEMBERED, SeededBatch, SeededBatchSampler, seed_process


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def disturb():
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


class Draws(Dataset):
    """Gives an index with random numbers of each generator."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, *draws()


def batches_of(loader):
    return [list(zip(*(column.tolist() for column in batch))) for batch in loader]


def make_loader(workers, skip=0, first=0, **options):
    sampler = SeededBatchSampler(SequentialSampler(range(10)), 3, **options)
    sampler.start(('seed', 0), first, skip)
    context = 'fork' if workers else None
    return DataLoader(Draws(), batch_sampler=sampler, num_workers=workers, multiprocessing_context=context)


def test_seeds_are_those_of_the_place_in_every_generator():
    seed_process(1, 'a')
    first = draws()
    disturb()
    seed_process(1, 'a')
    assert draws() == first
    for place in ((1, 'b'), (2, 'a'), (11, 'a'), ('1a',)):
        seed_process(*place)
        assert not set(draws()) & set(first), place


def test_a_batch_seeds_when_it_is_gone_through_and_not_when_it_is_sent():
    batch = SeededBatch([3, 1, 2], ('x', 4))
    disturb()
    expected = draws()
    disturb()
    sent = pickle.loads(pickle.dumps(batch))
    assert draws() == expected
    assert type(sent) is SeededBatch and len(sent) == 3 and sent[:] == [3, 1, 2] and sent.place == ('x', 4)
    seed_process('x', 4)
    expected = draws()
    disturb()
    assert list(sent) == [3, 1, 2] and draws() == expected


def test_images_are_augmented_alike_by_any_number_of_workers():
    alone = batches_of(make_loader(0))
    assert [len(batch) for batch in alone] == [3, 3, 3, 1]
    assert len({value for batch in alone for _, *numbers in batch for value in numbers}) == 30  # all differ
    for workers in (1, 2):
        disturb()
        assert batches_of(make_loader(workers)) == alone


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('skip', [0, 1, 3, 4])
def test_skipped_batches_leave_the_others_as_they_are(skip, workers):
    assert batches_of(make_loader(workers, skip)) == batches_of(make_loader(0))[skip:]


def test_passes_differ_by_the_iteration_they_start_at():
    first, second = batches_of(make_loader(0)), batches_of(make_loader(0, first=4))
    assert [[row[0] for row in batch] for batch in first] == [[row[0] for row in batch] for batch in second]
    numbers = [{value for batch in one for _, *rest in batch for value in rest} for one in (first, second)]
    assert not numbers[0] & numbers[1]


def test_endless_batches_are_those_of_one_pass_after_the_other():
    def sampler(**options):
        shuffled = DefaultSampler(range(8), shuffle=True, seed=3)
        return shuffled, SeededBatchSampler(shuffled, 3, drop_last=True, **options)

    expected = []
    for epoch in range(5):
        shuffled, one_pass = sampler()
        shuffled.set_epoch(epoch)
        expected += [batch[:] for batch in one_pass]
    assert len(expected) == 10 and len({tuple(batch) for batch in expected}) == 10
    for skip in (0, 1, 2, 7):
        _, endless = sampler(endless=True)
        endless.start((), 0, skip)
        got = [batch[:] for _, batch in zip(range(10 - skip), endless)]
        assert got == expected[skip:]


def test_another_batch_sampler_keeps_its_batches():
    sampler = SequentialSampler(range(7))
    seeded = SeededBatchSampler(sampler, 2, batch_sampler=dict(type=BatchSampler, drop_last=True))
    assert [batch[:] for batch in seeded] == [[0, 1], [2, 3], [4, 5]] and len(seeded) == 3
    assert seeded.sampler is sampler  # mmengine's hook tells it the epoch


def test_indices_of_recent_iterations_are_remembered():
    seeded = SeededBatchSampler(SequentialSampler(range(2 * REMEMBERED + 6)), 2)
    seeded.start((), 100)
    list(seeded)
    last = 100 + REMEMBERED + 2
    assert seeded.indices_of(last) == [2 * REMEMBERED + 4, 2 * REMEMBERED + 5]
    assert seeded.indices_of(last - REMEMBERED + 1) is not None
    assert seeded.indices_of(last - REMEMBERED) is None
    seeded.start((), last + 1)
    list(zip(range(3), seeded))
    assert seeded.indices_of(last + 2) == [2, 3] and seeded.indices_of(last) is not None  # of the pass before
