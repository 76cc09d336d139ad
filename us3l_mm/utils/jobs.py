"""Resumable multi-step jobs, one process per folder."""

import difflib
import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from .files import write_text

ENV = {
    'OMP_NUM_THREADS': '1',  # small networks gain little from more threads, and lose much on shared cores
    **os.environ,
    'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ.get("PATH", "")}',  # dist_train.sh calls `python`
}


class StepFailed(Exception):
    """A command of a job has failed."""


def write_configs(folder: Path, configs: dict[str, Config]) -> None:
    """Write the configs of a run into its folder, or check that they are those of the run that is there.

    Args:
        folder (Path): Folder of the run.
        configs (dict[str, Config]): Configs by name, written to ``<name>.py``.

    Raises:
        SystemExit: If the folder has other configs; the message shows the differences.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, cfg in configs.items():
        path = folder / f'{name}.py'
        if not path.exists():
            write_text(path, cfg.pretty_text)
        elif Config.fromfile(path).to_dict() != cfg.to_dict():
            lines = difflib.unified_diff(path.read_text().splitlines(), cfg.pretty_text.splitlines(), n=0, lineterm='')
            changed = [f'  {line}' for line in lines if line[:3] not in ('---', '+++') and line[:2] != '@@']
            raise SystemExit(
                f'{folder} was begun with other settings; {path.name} (-) and the settings of now (+):\n'
                + '\n'.join(changed[:10])
                + f'\nDelete {folder} to start anew, or give another --work-dir'
            )


@contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Lock a folder against other processes.

    Yields:
        int: File descriptor of the lock, for :func:`run_step`: its command keeps the lock if this process is killed.

    Raises:
        SystemExit: If another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f'another process is at work in {folder}, perhaps a training left by a killed '
                f'{Path(sys.argv[0]).name}; wait for it or end it'
            ) from None
        yield file.fileno()


def run_step(tool: Path, arguments: list[object], lock: int, gpus: int = 1) -> None:
    """Run one of our tools as a command, with its output on the screen.

    Args:
        tool (Path): Script.
        arguments (list[object]): Arguments of the script.
        lock (int): Lock of :func:`alone_in`.
        gpus (int): Processes. Several are started by ``dist_<tool>.sh`` beside the script, which takes their number
            before the first option. Defaults to 1.

    Raises:
        StepFailed: If the command fails.
    """
    tool = Path(os.path.relpath(tool))
    command = [sys.executable, str(tool), *map(str, arguments)]
    if gpus > 1:
        words = [str(argument) for argument in arguments]
        options = next((i for i, word in enumerate(words) if word.startswith('--')), len(words))
        command = ['bash', str(tool.with_name(f'dist_{tool.stem}.sh')), *words[:options], str(gpus), *words[options:]]
    print_log('$ ' + shlex.join(command))
    sys.stdout.flush()
    process = subprocess.Popen(command, env=ENV, pass_fds=[lock])
    try:
        code = process.wait()
    except BaseException:  # a training has to write its checkpoint; run() would kill it
        process.terminate()
        process.wait()
        raise
    if code:
        raise StepFailed(f'{tool.stem} failed (exit code {code})')


def run_unfinished(
    runs: dict[Path, dict[str, Config]], out: Path, run_one: Callable[[Path, dict[str, Config], int], None]
) -> None:
    """Run those jobs of several that have no ``result.json`` yet.

    A job that fails leaves ``failed.txt``, and the next one starts.

    Args:
        runs (dict[Path, dict[str, Config]]): Configs of each job, by its folder.
        out (Path): Folder of all jobs.
        run_one (Callable): Function of a folder, its configs and the lock for :func:`run_step` that runs the steps
            which are not done, and writes ``result.json``.

    Raises:
        SystemExit: If a folder was begun with other settings, or another process is at work in it.
    """
    for folder, configs in runs.items():  # check all before hours are spent on the first
        write_configs(folder, configs)
    begin, ran = time.time(), 0
    for index, (folder, configs) in enumerate(runs.items()):
        left = sum(not (other / 'result.json').exists() for other in list(runs)[index:])
        minutes = (time.time() - begin) / 60
        rest = f', about {left * minutes / ran:.0f} min to go' if ran else ''
        print_log(f'\n=== case {index + 1} of {len(runs)} ({folder.relative_to(out)}): {minutes:.0f} min so far{rest}')
        if (folder / 'result.json').exists():
            print_log('finished before, skipped')
            continue
        with alone_in(folder) as lock:
            failed = folder / 'failed.txt'
            failed.unlink(missing_ok=True)
            try:
                run_one(folder, configs, lock)
            except StepFailed as error:
                write_text(failed, f'{error}\n')
                print_log(f'{error}, see its messages above; going on with the next case')
        ran += 1
