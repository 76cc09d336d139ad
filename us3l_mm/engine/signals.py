"""What signals ask of a training, agreed on by all its processes."""

import os
import signal
import threading
from contextlib import AbstractContextManager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .checkpoint_hook import ResumableCheckpointHook

# What a signal asks for, the stronger the higher.
NOTHING, SAVE, STOP = 0, 1, 2
_ASKS = {signal.SIGUSR1: SAVE, signal.SIGTERM: STOP, signal.SIGINT: STOP}


class SignalRequests(AbstractContextManager):
    """Take signals as requests, inside a ``with`` block: SIGUSR1 to save, SIGTERM and SIGINT to save and stop.

    A second SIGINT ends the process at once.

    Args:
        timeout (float, optional): Seconds that processes wait for each other. Defaults to None: torch's default.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._asked = {SAVE: 0, STOP: 0}  # the signal received, or 0
        self._process = os.getpid()
        self._agreeing: tuple[torch.Tensor, dist.Work] | None = None
        self._group = None
        # torchrun's death leaves its processes alone with their work; they notice by their parent.
        self._parent = os.getppid() if 'TORCHELASTIC_RUN_ID' in os.environ else None
        if dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(
                backend='gloo', timeout=None if timeout is None else timedelta(seconds=timeout)
            )

    def __enter__(self) -> 'SignalRequests':
        main = threading.current_thread() is threading.main_thread()  # others cannot receive signals
        self._before = {number: signal.signal(number, self._receive) for number in _ASKS if main}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork that inherits this: see end_forks_by_sigterm
            return
        if number == signal.SIGINT and self._asked[STOP] == number:
            raise SystemExit(exit_code(number))
        self._asked[_ASKS[signal.Signals(number)]] = number

    def poll(self) -> tuple[int, int]:
        """Return what is asked for and by which signal, the same on all processes; call it once an iteration.

        With several processes the answer is that of the iteration before, so that nobody waits for the others. The
        exchange is between CPUs.
        """
        if self._parent is not None and os.getppid() != self._parent:
            self._asked[STOP] = self._asked[STOP] or signal.SIGTERM
        asks = STOP if self._asked[STOP] else SAVE if self._asked[SAVE] else NOTHING
        code = 100 * asks + self._asked.get(asks, 0)
        if self._group is not None:
            code = self._agree(code)
        if code // 100 == SAVE:
            self._asked[SAVE] = 0
        return divmod(code, 100)

    def _agree(self, code: int) -> int:
        """The highest code of all processes in the call before; 0 in the first."""
        before, agreed = self._agreeing, 0
        if before is not None:
            before[1].wait()
            agreed = int(before[0])
        if agreed // 100 == SAVE and code == agreed:
            code = 0  # served by this call
        value = torch.tensor(code)
        self._agreeing = value, dist.all_reduce(value, dist.ReduceOp.MAX, self._group, async_op=True)
        return agreed

    def wait_for_all(self) -> None:
        """Wait until all processes are here."""
        if self._group is not None:
            dist.barrier(self._group)


def exit_code(number: int) -> int:
    """Exit code of a process that ends for a signal: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


class SignalHook(Hook):
    """Do what signals ask for after an iteration: write a checkpoint and go on, or stop with :func:`exit_code`.

    Args:
        requests (SignalRequests): Where signals arrive.
    """

    priority = 'LOWEST'  # after the regular checkpoint, and the steps of schedulers

    def __init__(self, requests: SignalRequests) -> None:
        self.requests = requests

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Serve the requests.

        Raises:
            SystemExit: If the training is to stop; the checkpoint is written.
        """
        self._serve(runner, *self.requests.poll(), done=runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Serve the requests on a single process; several wait for the next training iteration, which all have.

        Raises:
            SystemExit: As :meth:`after_train_iter`; the resumed training begins with the validation.
        """
        if runner.world_size == 1:
            self._serve(runner, *self.requests.poll(), done=runner.iter)

    def _serve(self, runner: Runner, asks: int, number: int, done: int) -> None:
        if asks == NOTHING:
            return
        hook = next((hook for hook in runner.hooks if isinstance(hook, ResumableCheckpointHook)), None)
        where = 'no CheckpointHook to save it by' if hook is None else f'saved {hook.save_interrupted(runner, done)}'
        name = signal.Signals(number).name
        runner.logger.info(f'{name} after iteration {done}: {where}' + (', stopping' if asks == STOP else ', going on'))
        if asks == STOP:
            self.requests.wait_for_all()  # launchers kill the others soon after the first process has left
            raise SystemExit(exit_code(number))
