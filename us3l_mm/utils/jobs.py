"""Long jobs made of our own commands: done once each, gone on with after an interruption, never two at a time."""

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
from mmengine.runner import find_latest_checkpoint

from .files import write_text

ENV = {
    'OMP_NUM_THREADS': '1',  # small nets gain little from more threads, and lose much where cores are shared
    **os.environ,
    'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ.get("PATH", "")}',  # dist_train.sh calls `python`
}


class StepFailed(Exception):
    """A command ended with an error."""


def write_configs(folder: Path, configs: dict[str, Config]) -> None:
    """Write the configs of a run, or see that they are those that its folder was begun with.

    Raises:
        SystemExit: If they are not; the message shows what differs.
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
                f'{folder} was begun with other settings; see {path.name} (-) and what is asked for now (+):\n'
                + '\n'.join(changed[:10])
                + f'\nDelete {folder} to run this case anew, or give another --work-dir'
            )


@contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder; commands that inherit its file hold it on if this process is killed.

    Raises:
        SystemExit: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f'another process is at work in {folder}: wait for it or end it; a training may outlive a '
                f'{Path(sys.argv[0]).name} that was killed'
            ) from None
        yield file.fileno()


def run_step(tool: Path, arguments: list[object], lock: int, gpus: int = 1) -> None:
    """Run one of our tools; its output is the user's progress.

    Args:
        tool (Path): Script.
        arguments (list[object]): Its command line.
        lock (int): What :func:`alone_in` gave.
        gpus (int): Processes; several are started by ``dist_<tool>.sh`` beside it, which takes their number
            before the first option.

    Raises:
        StepFailed: If it ends with an error.
    """
    tool = Path(os.path.relpath(tool))
    command = [sys.executable, str(tool), *map(str, arguments)]
    if gpus > 1:
        words = [str(argument) for argument in arguments]
        options = next((i for i, word in enumerate(words) if word.startswith('--')), len(words))
        command = ['bash', str(tool.with_name(f'dist_{tool.stem}.sh')), *words[:options], str(gpus), *words[options:]]
    print_log('$ ' + shlex.join(command))
    sys.stdout.flush()
    done = subprocess.run(command, env=ENV, pass_fds=[lock])
    if done.returncode:
        raise StepFailed(f'{tool.stem} failed (exit code {done.returncode})')


def last_checkpoint(folder: Path, name: str) -> Path | None:
    """The checkpoint ``name``, if it is the last one and was written to its end."""
    found = find_latest_checkpoint(str(folder)) if (folder / 'last_checkpoint').exists() else None
    return folder / name if found and Path(found).name == name else None


def run_unfinished(
    runs: dict[Path, dict[str, Config]], out: Path, run_one: Callable[[Path, dict[str, Config], int], None]
) -> None:
    """Run what has no ``result.json`` yet; a run that fails leaves ``failed.txt`` and doesn't stop the others.

    Args:
        runs (dict[Path, dict[str, Config]]): Configs of each run, by its folder.
        out (Path): Folder that they are in.
        run_one (Callable): Does what is left of a run and writes its ``result.json``; takes the folder, the
            configs and the lock for :func:`run_step`.

    Raises:
        SystemExit: If a folder was begun with other settings, or another process is at work in it.
    """
    for folder, configs in runs.items():  # all, before hours are spent on the first
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
                print_log(f'{error}: its messages stand above; on to the next')
        ran += 1
