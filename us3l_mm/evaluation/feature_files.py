"""Features in files, extracted once, also if that is interrupted.

Shapes: N images, C channels.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.utils import ProgressBar
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.utils.data import Dataset, Subset

from us3l_mm.slim import width_label
from us3l_mm.utils.files import write_text

from .features import FeaturesOf

_SAVED_EVERY = 50  # batches between two notes of how far it has come


def cached_features(
    folder: Path,
    fingerprint: dict[str, Any],
    dataset: Dataset,
    make_loader: Callable[[Dataset], Iterable[dict]],
    features_of: FeaturesOf,
) -> tuple[dict[float, Tensor], Tensor]:
    """Extract features into files, go on where that was interrupted, or read them if they are all there.

    Args:
        folder (Path): Folder for ``w<width>.npy`` (N, C), ``labels.npy`` (N,), and ``state.json``, which says of how
            many images they are.
        fingerprint (dict[str, Any]): What the features depend on, as JSON takes it. Features of another one, or of
            another number of images, are deleted.
        dataset (Dataset): Labelled images.
        make_loader (Callable): Makes batches of a data set, in its order.
        features_of (Callable): See :func:`batch_features`.

    Returns:
        tuple[dict[float, Tensor], Tensor]: Features (N, C) in float32 by width, memory-mapped, and labels (N,).
    """
    count = len(dataset)  # type: ignore[arg-type]
    state = _State(folder, {**fingerprint, 'images': count})
    if state.done:
        what = 'all' if state.done == count else f'the first {state.done}'
        print_log(f'{folder} has the features of {what} of {count} images', 'current')
    if state.done < count:
        _extract(state, count, make_loader(Subset(dataset, range(state.done, count))), features_of)
    features = {
        width: torch.from_numpy(np.load(state.file(width), mmap_mode='c')) for width in map(float, state.widths)
    }
    return features, torch.from_numpy(np.load(folder / 'labels.npy'))


class _State:
    """What ``state.json`` says: the fingerprint, the widths, and how many images are done."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any]) -> None:
        self.folder, self.path = folder, folder / 'state.json'
        self.fingerprint = json.loads(json.dumps(fingerprint, default=str))
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        before = found.get('fingerprint')
        if before != self.fingerprint:
            if before is not None:
                changed = [key for key in self.fingerprint if before.get(key) != self.fingerprint[key]]
                print_log(f'{folder} has features of other {", ".join(changed)}; extracting them anew', 'current')
            shutil.rmtree(folder, ignore_errors=True)
            found = {}
        self.done, self.widths = found.get('done', 0), found.get('widths', [])

    def file(self, width: float) -> Path:
        return self.folder / f'w{width_label(width)}.npy'

    def save(self) -> None:
        write_text(self.path, json.dumps(dict(fingerprint=self.fingerprint, done=self.done, widths=self.widths)))


def _extract(state: _State, count: int, batches: Iterable[dict], features_of: FeaturesOf) -> None:
    """Write the features of the images that are not done."""
    state.folder.mkdir(parents=True, exist_ok=True)
    files: list[np.memmap] = []
    bar = ProgressBar(count - state.done)
    for number, batch in enumerate(batches, start=1):
        features, labels = features_of(batch)
        parts = {state.folder / 'labels.npy': labels, **{state.file(width): part for width, part in features.items()}}
        if not files:
            files = [_open(path, part, count, new=not state.done) for path, part in parts.items()]
            state.widths = list(features)
        for file, part in zip(files, parts.values()):
            file[state.done : state.done + len(labels)] = part.numpy()
        state.done += len(labels)
        if number % _SAVED_EVERY == 0 or state.done == count:
            for file in files:
                file.flush()
            state.save()  # after the features
        bar.update(len(labels))
    bar.file.write('\n')


def _open(path: Path, part: Tensor, count: int, new: bool) -> np.memmap:
    """Map a file for ``count`` rows like those of ``part``."""
    needed, free = count * part[0].nbytes, shutil.disk_usage(path.parent).free
    if new and needed > free:  # or else the process would die of a signal when it writes
        raise OSError(
            f'{path} needs {needed / 2**20:.1f} MiB, {free / 2**20:.1f} are free; make room or take another --work-dir'
        )
    return open_memmap(path, 'w+' if new else 'r+', dtype=part.numpy().dtype, shape=(count, *part.shape[1:]))


def file_hash(path: str) -> str:
    """Hash the content of a file by SHA-256."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
