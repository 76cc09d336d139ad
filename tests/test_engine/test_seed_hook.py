"""Randomness as a function of seed and epoch."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from us3l_mm.engine import EpochSeedHook, seed_worker
from us3l_mm.registry import FUNCTIONS, HOOKS


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def draws_of_epoch(seed, epoch):
    EpochSeedHook().before_train_epoch(SimpleNamespace(seed=seed, epoch=epoch))
    return draws()


def test_an_epoch_draws_the_same_whatever_came_before():
    first = draws_of_epoch(0, 5)
    for _ in range(3):
        draws()
    draws_of_epoch(0, 4)
    assert draws_of_epoch(0, 5) == first


def test_epochs_and_seeds_draw_differently():
    seen = [draws_of_epoch(seed, epoch) for seed in (0, 1, 2) for epoch in range(20)]
    for values in zip(*seen):
        assert len(set(values)) == len(seen)


@pytest.mark.parametrize('seed, epoch', [(2**31 - 1, 100_000), (2**40, 0), (123456789, 3000)])
def test_large_seeds_stay_in_range(seed, epoch):
    assert all(0 <= value < 1 for value in draws_of_epoch(seed, epoch))


def test_ranks_draw_differently(monkeypatch):
    seen = set()
    for rank in range(4):
        monkeypatch.setattr('mmengine.runner.utils.get_rank', lambda rank=rank: rank)
        seen.add(draws_of_epoch(0, 1))
    assert len({value for values in seen for value in values}) == 3 * 4


def test_hook_runs_before_the_samplers_and_other_hooks():
    assert HOOKS.build(dict(type='us3l_mm.EpochSeedHook')).priority == 'VERY_HIGH'
    assert FUNCTIONS.get('us3l_mm.seed_worker') is seed_worker


class Random(Dataset):
    """What a worker draws from each source of randomness."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor(draws(), dtype=torch.float64)


def epochs(order):
    """Draws of the workers in each epoch of ``order``."""
    loader = DataLoader(Random(), num_workers=2, worker_init_fn=seed_worker, multiprocessing_context='fork')
    seen = {}
    for epoch in order:
        EpochSeedHook().before_train_epoch(SimpleNamespace(seed=0, epoch=epoch))
        seen[epoch] = torch.cat(list(loader))
    return seen


@pytest.mark.slow
def test_workers_follow_the_epoch_and_not_the_run():
    run, resumed = epochs([0, 1, 2]), epochs([2])
    assert torch.equal(run[2], resumed[2])
    values = torch.stack(list(run.values()))  # (3 epochs, 4 images, 3 sources)
    for source in values.unbind(-1):
        assert len(source.unique()) == 12  # no two epochs or workers agree


def test_seed_worker_follows_torch():
    seen = []
    for _ in range(2):
        torch.manual_seed(2**40 + 7)
        seed_worker(3)
        seen.append((random.random(), np.random.rand()))
    assert seen[0] == seen[1]
    torch.manual_seed(8)
    seed_worker(3)
    assert not set(seen[0]) & {random.random(), np.random.rand()}
