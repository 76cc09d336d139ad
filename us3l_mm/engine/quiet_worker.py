"""Keep the signals that end a training from its data-loading workers."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

GRACE = 30  # seconds, as long as Slurm waits before SIGKILL
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
    """End this process when its parent sends SIGTERM, as multiprocessing does at the end of the training.

    Two signals that come at once are delivered as one. So after a SIGTERM of others, which stops the training anyhow,
    the process ends some time later by itself.
    """
    got, last = signal.sigwaitinfo({signal.SIGTERM}), time.monotonic() + GRACE
    while got is not None and got.si_pid != parent:
        got = signal.sigtimedwait({signal.SIGTERM}, max(0, last - time.monotonic()))
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
    """Have the workers of a data loader outlive signals."""
    if type(loader) is DataLoader:
        loader.__class__ = QuietDataLoader
    loader.worker_init_fn = QuietWorker(loader.worker_init_fn)
