"""Write files that nobody sees half-written, not even after a power cut."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

PART = '.part'  # suffix of a file that is being written


def write_files(files: dict[Path, Callable[[Path], object]], force: bool = False) -> None:
    """Write several files, which get their names only when all of them are complete and on the disk.

    Args:
        files (dict[Path, Callable[[Path], object]]): For each file, a function that writes it to a given path.
        force (bool): Whether to replace existing files. Defaults to False.

    Raises:
        FileExistsError: If a file exists and ``force`` is False; nothing is written then.
        OSError: If a file cannot be written, for want of space perhaps; what was there before is untouched.
    """
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise FileExistsError(f'{", ".join(there)} exists already; give --force to replace it, or another --out')
    parts = {path: path.with_name(f'{path.name}{PART}') for path in files}
    try:
        for path, write in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, write, parts[path])
        for path, part in parts.items():
            os.replace(part, path)
        for folder in {path.parent for path in files}:
            _to_disk(folder)  # the names
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as :func:`write_files` does; an existing file is replaced."""
    write_files({path: lambda part: part.write_text(text, encoding='utf-8')}, force=True)


def cannot_write(path: Path | str, folder: Path, error: Exception) -> OSError:
    """Return the error for what cannot be written, with the space that is left in a folder."""
    free = shutil.disk_usage(folder).free / 2**20
    return OSError(f'cannot write {path}: {error} ({free:.1f} MiB free there); make room or choose another folder')


def _write(path: Path, write: Callable[[Path], object], part: Path) -> None:
    """Write ``part``, with an error that names the file it was to become."""
    try:
        write(part)
        _to_disk(part)
    except OSError as error:
        raise cannot_write(path, path.parent, error) from error
    except RuntimeError as error:
        if 'inline_container' not in str(error):  # what torch says when a disk is full
            raise
        raise cannot_write(path, path.parent, error) from error


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
