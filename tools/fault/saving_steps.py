"""The steps in which a process saves files, and what happens to it at one of them."""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend

_WATCHED = ((LocalBackend, 'put'), (Path, 'write_text'), (Path, 'unlink'), (os, 'fsync'), (os, 'replace'))
WRITES = ('put', 'write_text')


def watch(record: Path, at: tuple[str, int] | None = None, when: str = 'before', event: Callable | None = None) -> None:
    """Write a line for each step of saving, and let something happen at one; for ``before`` of ``common.start``.

    Args:
        record (Path): File that gets a line for each finished step: what was done, and the name of the file.
        at (tuple[str, int], optional): Step, as :func:`label` calls it, and which of those of this process, from 1.
            Defaults to None.
        when (str): ``'before'``, ``'midway'`` or ``'after'`` it; midway, half of a file is written. Defaults to
            ``'before'``.
        event (Callable, optional): What happens. Defaults to None: SIGKILL.
    """
    event = event or _die
    counts: Counter = Counter()
    file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def watched(original: Callable, name: str) -> Callable:
        def step(*args: Any, **kwargs: Any) -> Any:
            path = _path(name, args)
            line = f'{name} {"folder" if path.is_dir() else path.name}'
            counts[label(line)] += 1
            now = when if at == (label(line), counts[label(line)]) else None
            if now == 'before':
                event()
            if now == 'midway':
                text = args[1] if name == 'put' else args[1].encode()
                with open(path, 'wb') as half:
                    half.write(text[: len(text) // 2])
                event()
            result = original(*args, **kwargs)
            os.write(file, f'{line}\n'.encode())
            if now == 'after':
                event()
            return result

        return step

    for owner, name in _WATCHED:
        setattr(owner, name, watched(getattr(owner, name), name))


def label(line: str) -> str:
    """What a step is called: ``'put epoch_2.pth.part'`` is ``'put checkpoint.part'``."""
    line = re.sub(r' best_\w+\.pth', ' best', re.sub(r' (epoch|iter)_\d+\.pth', ' checkpoint', line))
    return re.sub(r' iter_\d+_rank_\d+\.json', ' report', line)


def saved(record: Path) -> list[str]:
    """Names of the checkpoints whose saving was finished, in order."""
    lines = record.read_text().splitlines() if record.exists() else []
    return [line.split()[1] for line in lines if re.fullmatch(r'replace (epoch|iter)_\d+\.pth', line)]


def _path(name: str, args: tuple) -> Path:
    if name == 'fsync':
        return Path(os.readlink(f'/proc/self/fd/{args[0]}'))
    return Path(args[0] if name in ('write_text', 'unlink') else args[-1])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
