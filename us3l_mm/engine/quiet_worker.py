"""Keep the signals that end a training from its data-loading workers."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from typing import Any

from torch.utils.data import DataLoader

GRACE = 10  # seconds until a worker is killed that does not end
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}


class QuietWorker:
    """Initialise a data-loading worker so that it outlives the signals at which the training writes a checkpoint.

    A terminal sends SIGINT, and Slurm SIGTERM, to every process. A worker that ends by it makes torch raise in the
    training before the checkpoint is written. SIGTERM of the training itself ends the worker.

    Args:
        init (Callable, optional): Function of the worker's number to run as well. Defaults to None.
    """

    def __init__(self, init: Callable[[int], object] | None = None) -> None:
        self.init = init

    def __call__(self, worker_id: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True).start()
        if self.init is not None:
            self.init(worker_id)


def _end_for(parent: int) -> None:
    """End this process when its parent sends SIGTERM, as multiprocessing does at the end of the training."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # torch takes another code for a fault of the worker


class QuietDataLoader(DataLoader):
    """torch's ``DataLoader``, whose workers never see those signals, not even while they start."""

    def __iter__(self) -> Iterator[Any]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # workers inherit it
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def quieten(loader: DataLoader) -> None:
    """Have the workers of a data loader outlive signals, and end with this process."""
    if type(loader) is DataLoader:
        loader.__class__ = QuietDataLoader
    loader.worker_init_fn = QuietWorker(loader.worker_init_fn)
    Finalize(None, _end_workers, exitpriority=0)


def _end_workers() -> None:
    """End the workers before multiprocessing does, which sends SIGTERM once and waits.

    A worker that has not taken the SIGTERM of another process yet never gets to know of ours: one alone is kept. A
    worker that takes none at all, since it stands still, is killed.
    """
    last = time.monotonic() + GRACE
    while workers := [child for child in multiprocessing.active_children() if child.daemon]:
        for worker in workers:
            worker.terminate() if time.monotonic() < last else worker.kill()
        workers[0].join(0.1)
