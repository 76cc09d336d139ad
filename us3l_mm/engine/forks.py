"""Have forks end by SIGTERM, as pools of processes expect."""

import functools
import os
import signal
import threading

_mask = threading.local()


@functools.cache  # there is no way to take it back
def end_forks_by_sigterm() -> None:
    """Have forks of this process, such as those of a metric, end by SIGTERM whatever the process itself does at it.

    A pool of processes ends them by one SIGTERM and waits. A handler in Python, which forks inherit, does not serve:
    Python forgets a signal that arrives while a fork starts. So it waits until the fork has the default action.
    """
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_end_by_sigterm)


def _hold() -> None:
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _end_by_sigterm() -> None:
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release()
