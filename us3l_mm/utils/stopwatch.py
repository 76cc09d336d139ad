"""Time that goes to one thing after another, on a CPU or a GPU."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator

import torch


class Stopwatch:
    """Measure how long each of several things takes that follow each other, without making the CPU wait for a GPU.

    On a GPU it is the time between events in the current stream, of what was queued in between; elsewhere that of the
    clock.

    Args:
        device (torch.device): Where the work is done.
        clock (Callable): Gives the time in seconds. Defaults to :func:`time.perf_counter`.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.on_gpu = device.type == 'cuda'
        self.clock = clock
        self._marks: deque[tuple[Hashable | None, float | torch.cuda.Event]] = deque()

    def switch(self, key: Hashable | None) -> None:
        """Let the time from now on go to ``key``, or to nothing."""
        mark: float | torch.cuda.Event
        if self.on_gpu:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
        else:
            mark = self.clock()
        self._marks.append((key, mark))

    def read(self, wait: bool = False) -> Iterator[tuple[Hashable, float]]:
        """Take what was measured since the last call.

        Args:
            wait (bool): Whether to wait for what a GPU has not done yet; else it is read by a later call.

        Yields:
            tuple[Hashable, float]: Key and seconds.
        """
        while len(self._marks) > 1:
            (key, start), (_, end) = self._marks[0], self._marks[1]
            if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                if wait:
                    end.synchronize()
                elif not end.query():
                    return
                seconds = start.elapsed_time(end) / 1e3
            else:
                seconds = end - start
            self._marks.popleft()
            if key is not None:
                yield key, seconds
