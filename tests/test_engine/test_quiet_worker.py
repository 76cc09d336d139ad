"""Data-loading workers outlive the signals that a training answers, and end with it."""

import multiprocessing
import os
import signal
import subprocess
import time

import pytest
import torch.utils.data._utils.worker as torch_worker
from torch.utils.data import DataLoader, Dataset

from us3l_mm.engine import quiet_worker
from us3l_mm.engine.quiet_worker import quieten

pytestmark = pytest.mark.slow


class Pids(Dataset):
    """Gives the process that loads, and what its initialisation left."""

    left = None

    def __getitem__(self, index):
        return os.getpid(), Pids.left

    def __len__(self):
        return 8


def leave(worker):
    Pids.left = worker


def send(pid, number):
    """Send a signal from a process that is not the worker's parent, as a terminal or Slurm does."""
    subprocess.run(['kill', f'-{int(number)}', str(pid)], check=True)


def make_loader(**options):
    loader = DataLoader(Pids(), batch_size=1, num_workers=2, collate_fn=list, multiprocessing_context='fork', **options)
    quieten(loader)
    return loader


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_workers_outlive_signals(number):
    batches = iter(make_loader(prefetch_factor=1))
    pids = {next(batches)[0][0] for _ in range(2)}
    for pid in pids:
        send(pid, number)
    assert {batch[0][0] for batch in batches} == pids and len(pids) == 2


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_workers_outlive_signals_while_they_start(number, monkeypatch):
    original = torch_worker.signal_handling._set_worker_signal_handlers

    def set_and_get_signal():  # in the worker, after torch's own handlers are set and before ours
        original()
        send(os.getpid(), number)

    monkeypatch.setattr(torch_worker.signal_handling, '_set_worker_signal_handlers', set_and_get_signal)
    assert len(list(make_loader())) == 8


def test_training_ends_its_workers_at_once():
    loader = make_loader(persistent_workers=True)
    workers = iter(loader)._workers
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0]


def end_with_a_signal_pending():
    global kept  # to the end, or torch ends the workers another way
    kept = iter(make_loader(persistent_workers=True))
    for worker in kept._workers:
        send(worker.pid, signal.SIGTERM)  # ours, which follows, is lost


@pytest.mark.parametrize('slow, grace', [(2, 60), (1000, 1)], ids=['waited for', 'killed'])
def test_training_ends_workers_that_are_slow_to_take_a_signal(monkeypatch, slow, grace):
    take = quiet_worker._end_for
    monkeypatch.setattr(quiet_worker, '_end_for', lambda parent: (time.sleep(slow), take(parent)))
    monkeypatch.setattr(quiet_worker, 'GRACE', grace)
    training = multiprocessing.get_context('fork').Process(target=end_with_a_signal_pending)
    training.start()
    training.join(60)
    ended = not training.is_alive()
    training.kill()
    assert ended and training.exitcode == 0


def test_signals_of_the_training_are_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    iter(make_loader())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_own_initialisation_is_kept():
    assert {batch[0][1] for batch in make_loader(worker_init_fn=leave)} == {0, 1}
    assert Pids.left is None
