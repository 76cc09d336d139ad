"""Seed each epoch anew, so that a resumed run equals an uninterrupted one."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed

from us3l_mm.registry import FUNCTIONS, HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed Python, NumPy and torch at the start of each epoch, differently on each rank.

    mmengine seeds once, so that a run resumed at epoch 5 repeats the augmentations of epoch 0. Use it
    with ``worker_init_fn=dict(type='us3l_mm.seed_worker')`` and ``persistent_workers=False``.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed by (seed, epoch, rank)."""
        # A multiplier far above the number of ranks and workers keeps the seeds of epochs apart.
        set_random_seed((runner.seed + 1_000_003 * runner.epoch) % 2**31, diff_rank_seed=True)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed Python and NumPy in a data-loading worker from the seed that torch gave it for this epoch."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
