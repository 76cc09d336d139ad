"""Who may train in a work dir, and from which of its checkpoints a training goes on."""

import fcntl
import logging
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

HINT = 'last_checkpoint'
INTERRUPTED = 'interrupted.pth'
_CHECKPOINT = re.compile(r'(epoch|iter)_\d+\.pth|interrupted\.pth')


def lock(work_dir: Path) -> IO[str]:
    """Lock a work dir against other trainings, until the file is closed or the process ends, however that may be.

    Raises:
        SystemExit: If another process trains there.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    file = open(work_dir / 'train.lock', 'a+')  # noqa: SIM115  the caller keeps it
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: data-loading workers would inherit that
    except (BlockingIOError, PermissionError):
        file.seek(0)
        raise SystemExit(
            f'another training is at work in {work_dir}: {file.read().strip() or "unknown process"}; wait for it, '
            'end it, or give another --work-dir'
        ) from None
    except OSError as error:  # a file system without locks
        print_log(f'{work_dir} cannot be locked against other trainings: {error}', 'current', logging.WARNING)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    return file


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints of a training in a folder, by their names, in no order."""
    return [path for path in folder.glob('*.pth') if _CHECKPOINT.fullmatch(path.name)]


def refuse_to_overwrite(work_dir: Path, overwrite: bool) -> None:
    """Refuse to train from the start where there are checkpoints, or delete them.

    Raises:
        SystemExit: If there are some and ``overwrite`` is False.
    """
    there = checkpoint_files(work_dir)
    if not there:
        return
    if not overwrite:
        names = ', '.join(sorted(path.name for path in there)[-3:])
        raise SystemExit(
            f'{work_dir} has checkpoints of an earlier training ({names}); go on by --resume, delete them by '
            '--overwrite, or give another --work-dir'
        )
    for path in (*there, work_dir / HINT):
        path.unlink(missing_ok=True)
    print_log(f'deleted {len(there)} checkpoints in {work_dir} (--overwrite)', 'current', logging.WARNING)


@dataclass(frozen=True)
class Found:
    """A checkpoint that was read: its path, its place in the training, and its ``meta``."""

    path: Path
    place: tuple[int, int]
    meta: dict[str, Any]


def read_training_checkpoint(path: Path) -> Found:
    """Read a checkpoint whole, which checks it, and tell its place.

    Raises:
        RuntimeError: If it is damaged, or no checkpoint of a training.
        FileNotFoundError: If it is missing.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    place = [meta.get(key) if isinstance(meta, dict) else None for key in ('iter', 'epoch')]
    lacking = [key for key in ('state_dict', 'optimizer', 'message_hub') if key not in checkpoint]
    if lacking or not all(type(value) is int and value >= 0 for value in place):
        raise RuntimeError(
            f'{path} is no checkpoint of a training that can go on: it has no {lacking[0] if lacking else "place"}; '
            'start from its weights by `--cfg-options load_from=...` instead of --resume'
        )
    return Found(path, (place[0], place[1]), meta)


def newest_checkpoint(work_dir: Path, folder: Path) -> Found | None:
    """Find the checkpoint to go on from.

    ``last_checkpoint`` in the work dir is a hint only. It is believed if the file it names is sound and no other is
    younger; else every checkpoint is read.

    Args:
        work_dir (Path): Work dir.
        folder (Path): Where the checkpoints are, often the same.

    Returns:
        Found | None: The sound checkpoint that is the furthest; None if there is none at all.

    Raises:
        RuntimeError: If there are checkpoints, or a hint at one, but none is sound.
    """
    hint, hinted, name = work_dir / HINT, None, ''
    if hint.is_file():
        # The name counts, not the folder, which mmengine writes, too: a copied work dir goes on from itself.
        name = Path(hint.read_text(errors='replace').strip()).name
        hinted = next((path for path in folder.glob('*') if path.name == name), None)
    faults = {name: f'{hint} names {name!r:.99}, which is not in {folder}'} if name and hinted is None else {}
    others = [path for path in checkpoint_files(folder) if hinted is None or not path.samefile(hinted)]
    if hinted is not None:
        young = [path for path in others if path.stat().st_mtime > hinted.stat().st_mtime]
        found = _soundest([hinted, *young], faults)
        if found is not None and hinted.name not in faults:
            return _told(found, faults)
    found = _soundest([path for path in others if path.name not in faults], faults)
    if found is None and faults:
        raise RuntimeError(
            f'no sound checkpoint in {folder}: ' + '; '.join(faults.values()) + '; train from the start by --overwrite'
        )
    return _told(found, faults)


def _soundest(paths: list[Path], faults: dict[str, str]) -> Found | None:
    """The furthest of the sound checkpoints; what is wrong with the others goes into ``faults`` by file name."""
    found = []
    for path in paths:
        try:
            found.append(read_training_checkpoint(path))
        except Exception as error:  # damaged files raise whatever their bytes say
            faults[path.name] = str(error)
    return max(found, key=lambda one: one.place, default=None)


def _told(found: Found | None, faults: dict[str, str]) -> Found | None:
    for fault in faults.values():
        print_log(f'{fault}; going on from {found.path if found else "the start"}', 'current', logging.WARNING)
    return found
