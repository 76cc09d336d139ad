"""Moments of a training at which it stands still, so that something can be done to it just then."""

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.runner
import torch.utils.data._utils.worker as torch_worker

from us3l_mm.engine import ResumableRunner
from us3l_mm.engine.loops import ResumableLoop
from us3l_mm.engine.seeded_batches import SeededBatch

HERE = 'STANDS STILL'
EPOCH, ITERATION, LAST = 2, 7, 11  # the second of four epochs of three iterations is over after 6 of them
# For each moment: where a function is, its name, and whether it is the moment, from the function's arguments.
_BEFORE: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    'building the model': (ResumableRunner, 'build_model', lambda *_: True),
    'before the first iteration': (mmengine.runner.Runner, 'load_or_resume', lambda *_: True),
    'iteration': (ResumableLoop, 'run_iter', lambda loop, *_: loop._iter == ITERATION),
    'waiting for data': (SeededBatch, '__iter__', lambda batch: batch.place[-2:] == (ITERATION, 'images')),
    'writing a checkpoint': (
        mmengine.runner.Runner,
        'save_checkpoint',
        lambda runner, folder, name, *_, **__: name.startswith(f'epoch_{EPOCH}.pth'),
    ),
    'validation': (
        mmengine.runner.ValLoop,
        'run_iter',
        lambda loop, index, batch: index == 1 and loop.runner.epoch == EPOCH,
    ),
    'last iteration': (ResumableLoop, 'run_iter', lambda loop, *_: loop._iter == LAST),
    'last validation': (
        mmengine.runner.ValLoop,
        'run_iter',
        lambda loop, index, batch: index == 1 and loop.runner.epoch == loop.runner.max_epochs,
    ),
}
_AFTER: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    'starting workers': (torch_worker.signal_handling, '_set_worker_signal_handlers', lambda: True),
    'after the training': (ResumableRunner, 'train', lambda *_: True),
}
MOMENTS = (*_BEFORE, *_AFTER)


def stand_still(moment: str, go: Path) -> None:
    """Have the training in this process print ``HERE`` at a moment, once, and wait until there is a file ``go``.

    ``HERE`` is followed by the number of the process. A file with text has the training raise an error of that text.
    """
    where, name, is_it = (_BEFORE | _AFTER)[moment]
    function = getattr(where, name)

    def wait(*args, **kwargs) -> None:
        if is_it(*args, **kwargs) and not go.exists():
            print(HERE, os.getpid(), flush=True)
            while not go.exists():
                time.sleep(0.01)
            if go.read_text():
                raise RuntimeError(go.read_text())

    @functools.wraps(function)
    def stopping(*args, **kwargs):
        if moment in _BEFORE:
            wait(*args, **kwargs)
        result = function(*args, **kwargs)
        if moment in _AFTER:
            wait(*args, **kwargs)
        return result

    setattr(where, name, stopping)
