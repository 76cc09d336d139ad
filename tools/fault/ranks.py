"""Trainings of two processes over gloo, on a machine without GPUs: started here, or by torchrun.

Under torchrun this file is the program of each process: ``torchrun ... ranks.py tools/train.py CONFIG ...``.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed.run

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from common import start
from moments import stand_still

RANKS = 2
_ASIDE = 'US3L_FAULT'  # environment variable: rank, moment, file to wait for


def _without_gpu(before: Callable[[], object] | None = None) -> None:
    torch.cuda.set_device = lambda *_: None  # mmengine's launcher gives each process a GPU
    if before is not None:
        before()


def _free_port() -> str:
    with socket.socket() as there:
        there.bind(('127.0.0.1', 0))
        return str(there.getsockname()[1])


def start_ranks(
    *arguments: object, logs: list[Path], before: dict[int, Callable[[], object]] | None = None
) -> list[BaseProcess]:
    """Start ``tools/train.py`` in processes of their own; ``before`` and ``logs`` by rank, as for :func:`start`."""
    port = _free_port()
    ranks = []
    for rank, log in enumerate(logs):
        env = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=len(logs), MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        first = partial(_without_gpu, (before or {}).get(rank))
        env = {name: str(value) for name, value in env.items()}
        ranks.append(start('tools/train.py', *arguments, '--launcher', 'pytorch', log=log, before=first, env=env))
    return ranks


def start_torchrun(*arguments: object, log: Path, rank: int, moment: str, go: Path) -> BaseProcess:
    """Start ``tools/train.py`` by torchrun; one rank stands still at a moment, see :func:`stand_still`."""
    options = [f'--nproc_per_node={RANKS}', f'--master_port={_free_port()}', __file__, 'tools/train.py']
    env = {_ASIDE: json.dumps([rank, moment, str(go)])}
    tool = torch.distributed.run.__file__
    return start(tool, *options, *arguments, '--launcher', 'pytorch', log=log, env=env)


def gone(work: Path, seconds: float, end: bool = False) -> bool:
    """Whether no process has a work dir in its command line any more, after some seconds at most.

    Args:
        work (Path): The work dir.
        seconds (float): How long to wait for it.
        end (bool): Whether to kill such processes. Defaults to False.
    """
    last = time.monotonic() + seconds
    while True:
        left = []
        for path in Path('/proc').glob('[0-9]*/cmdline'):
            with contextlib.suppress(OSError):
                if str(work).encode() in path.read_bytes():
                    left.append(int(path.parent.name))
        if not left or time.monotonic() > last:
            return not left
        for number in left if end else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.1)


def main() -> None:
    rank, moment, go = json.loads(os.environ[_ASIDE])
    _without_gpu()
    if rank == int(os.environ['RANK']):
        stand_still(moment, Path(go))
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
