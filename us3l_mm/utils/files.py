"""Files that are never seen half-written."""

import os
from collections.abc import Callable
from pathlib import Path


def write_files(files: dict[Path, Callable[[Path], object]], force: bool = False) -> None:
    """Write files under their names only when all of them are complete.

    Args:
        files (dict[Path, Callable[[Path], object]]): For each file, what writes it to a given path.
        force (bool): Whether to replace files that are there.

    Raises:
        FileExistsError: If one is there and ``force`` is not given. Nothing is written then.
    """
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise FileExistsError(f'{", ".join(there)} exists already; give --force to replace it, or another --out')
    parts = {path: path.with_name(f'{path.name}.part') for path in files}
    try:
        for path, write in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(parts[path])
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of text, also in place of one that is there; see :func:`write_files`."""
    write_files({path: lambda part: part.write_text(text, encoding='utf-8')}, force=True)
