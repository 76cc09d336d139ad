"""Write files that nobody sees half-written."""

import os
from collections.abc import Callable
from pathlib import Path


def write_files(files: dict[Path, Callable[[Path], object]], force: bool = False) -> None:
    """Write several files, which get their names only when all of them are complete.

    Args:
        files (dict[Path, Callable[[Path], object]]): For each file, a function that writes it to a given path.
        force (bool): Whether to replace existing files. Defaults to False.

    Raises:
        FileExistsError: If a file exists and ``force`` is False; nothing is written then.
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
    """Write a text file as :func:`write_files` does; an existing file is replaced."""
    write_files({path: lambda part: part.write_text(text, encoding='utf-8')}, force=True)
