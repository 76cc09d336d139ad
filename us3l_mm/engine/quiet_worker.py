"""Keep the signals that end a training from its data-loading workers."""

import signal
from collections.abc import Callable


class QuietWorker:
    """Initialise a data-loading worker so that it outlives the signals at which the training writes a checkpoint.

    A terminal sends SIGINT, and Slurm SIGTERM, to every process. A worker that ends by it makes torch raise in the
    training before the checkpoint is written.

    Args:
        init (Callable, optional): Function of the worker's number to run as well. Defaults to None.
    """

    grace = 60  # seconds that a worker goes on after SIGTERM, should the training not end it

    def __init__(self, init: Callable[[int], object] | None = None) -> None:
        self.init = init

    def __call__(self, worker_id: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(self.grace))
        if self.init is not None:
            self.init(worker_id)
