"""Look at data sets before a training, and say what is wrong with their files, boxes and classes."""

import os.path as osp
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..found import UNUSABLE_BOXES, FaultsError, Findings, cut_box
from ..load_image import BadImageError, find_loaders
from .files import OTHER_FILES, left_out, look_at
from .report import Book, Finding, Split
from .splits import compare_classes, compare_grey, find_copies

_UNUSABLE = {what.partition(', ')[0] for what in UNUSABLE_BOXES}
_Stated = dict[str, tuple[int, int] | None]  # width and height by the annotation of each file, if it says so


def check_data(
    datasets: dict[str, Any],
    sample: int = 64,
    most_entries: int | None = 20_000,
    track: Callable[[Sequence], Iterable] = iter,
) -> tuple[list[Split], list[Finding]]:
    """Look at the files of data sets, what their annotations say of them, and whether the splits fit together.

    Sets without files on this machine, such as CIFAR's archive or images in memory, are left out.

    Args:
        datasets (dict[str, Any]): Data set of each split by its name, that of the training first.
        sample (int): How many images of each split are decoded, drawn by a fixed seed; 0 means all. Defaults to 64.
        most_entries (int, optional): Of a larger split only the sample is looked at, which takes no longer however
            large it is. Defaults to 20,000; None means no limit.
        track (Callable[[Sequence], Iterable]): What the files to decode are iterated by, such as
            :func:`mmengine.utils.track_iter_progress`. Defaults to no progress bar.

    Returns:
        tuple[list[Split], list[Finding]]: What there is, and what is wrong with it, errors first.
    """
    book, folders = Book(), set[str]()
    splits: list[Split] = []
    for name, dataset in datasets.items():
        if not _has_files(dataset):
            continue
        split = Split(name, classes=_classes(dataset))
        stated = _read_entries(split, dataset, sample, most_entries, book)
        _decode(split, stated, any(loader.on_bad_image == 'skip' for loader in find_loaders(dataset)), book, track)
        for leaf in _leaves(dataset) if split.complete else ():
            _list_left_out(split, leaf, folders, book)
        splits.append(split)
    compare_classes(splits, book)
    compare_grey(splits, book)
    find_copies(splits, book)
    return splits, sorted(book.findings(), key=lambda finding: finding.level)


def annotation_findings(split: str, dataset: Any) -> list[Finding]:
    """List what a data set of detection found in its annotations when it was built, which it has logged itself.

    Args:
        split (str): Name of the split.
        dataset (Any): Data set; those other than :class:`~us3l_mm.datasets.custom_voc.CustomVOC` and
            :class:`~us3l_mm.datasets.custom_coco.CustomCOCO` have no findings.
    """
    found = []
    for leaf in _leaves(dataset):
        findings = getattr(leaf, 'findings', None)
        for what, names in findings.found.items() if findings else ():
            level = 'error' if what in UNUSABLE_BOXES else 'warning'
            found.append(Finding(level, split, what, f'Put it right in {findings.source}', list(names)))
    return found


def build_error(split: str, error: Exception, files: Sequence[str]) -> Finding:
    """Turn the error of a data set that cannot be built into a finding.

    Args:
        split (str): Name of the split.
        error (Exception): What it raised.
        files (Sequence[str]): Its annotation files.
    """
    empty = [path for path in files if osp.isfile(path) and not osp.getsize(path)]
    if empty:
        names = [(path, '') for path in empty]
        return Finding('error', split, 'empty annotation files', 'Write them again, or name others', names)
    faults = error.faults if isinstance(error, FaultsError) else [str(error) or type(error).__name__]
    fix = 'The split cannot be used, nor looked at any further, before that is put right'
    return Finding('error', split, 'faults that stop the data set', fix, [(fault, '') for fault in faults])


def _leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside wrappers such as ConcatDataset and RepeatDataset."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for each in inner:
        if each is None:
            yield dataset
        else:
            yield from _leaves(each)


def _has_files(dataset: Any) -> bool:
    """Whether the entries of a data set name files on this machine."""
    if not hasattr(dataset, 'get_data_info') or not len(dataset):
        return False
    path = dataset.get_data_info(0).get('img_path')
    remote = any(getattr(part, 'backend_args', None) for part in (*_leaves(dataset), *find_loaders(dataset)))
    return isinstance(path, str) and '://' not in path and not remote


def _classes(dataset: Any) -> tuple[str, ...] | None:
    names = dataset.metainfo.get('classes')
    return None if names is None else tuple(map(str, names))


def _read_entries(split: Split, dataset: Any, sample: int, most: int | None, book: Book) -> _Stated:
    """Read what the entries of a data set say, and draw the sample."""
    total = len(dataset)
    split.complete = most is None or total <= most
    drawn = sorted(random.Random(0).sample(range(total), min(sample or total, total)))
    chosen, stated, count, findings = set(drawn), _Stated(), Counter[str](), Findings(split.name)
    for index in range(total) if split.complete else drawn:
        info = dataset.get_data_info(index)
        path = info['img_path']
        if index in chosen:
            split.sampled.append(path)
        if path in stated:  # in a wrapper that repeats
            continue
        stated[path] = (info['width'], info['height']) if 'width' in info else None
        labels = _read_boxes(split, path, info, findings) if 'instances' in info else info.get('gt_label', ())
        count.update(_name(split, path, int(label), book) for label in np.atleast_1d(labels))
    split.sampled = list(dict.fromkeys(split.sampled))
    split.paths = list(stated)
    split.images = len(stated) if split.complete else total
    split.count = {name: count[name] for name in dict.fromkeys([*(split.classes or ()), *count])} if count else {}
    for what, names in findings.found.items():
        told = what.partition(', ')[0]
        for name, detail in names:
            level = 'error' if told in _UNUSABLE else 'warning'
            book.add(level, split.name, told, 'Put the boxes right, or take them out', name, detail)
    return stated


def _read_boxes(split: Split, path: str, info: dict, findings: Findings) -> list[int]:
    """Count the boxes of an image, check them against its stated size, and list their labels."""
    split.boxes = (split.boxes or 0) + len(info['instances'])
    if not info['instances']:
        split.without_boxes.append(path)
    for item in info['instances']:
        cut_box(item['bbox'], info['height'], info['width'], findings, path)
    return [item['bbox_label'] for item in info['instances']]


def _name(split: Split, path: str, label: int, book: Book) -> str:
    """Return the name of a class by its number; a number without a name is an error."""
    if split.classes is None:
        return str(label)
    if not 0 <= label < len(split.classes):
        fix = f'Labels go from 0 to {len(split.classes) - 1}: put them or `classes` right'
        book.add('error', split.name, 'labels that are no class', fix, path, f'label {label}')
        return str(label)
    return split.classes[label]


def _decode(split: Split, stated: _Stated, skips: bool, book: Book, track: Callable) -> None:
    """Decode the sample."""
    for path in track(split.sampled):
        try:
            look = look_at(path)
        except BadImageError as error:
            reason = str(error).partition(f'{path}: ')[2] or str(error)
            fix = 'Copy them again or remove them; on_bad_image of LoadImageFromFile lets training skip a few'
            book.add('warning' if skips else 'error', split.name, 'images that cannot be read', fix, path, reason)
            continue
        split.sizes.append(look.size)
        split.grey += look.grey
        for what, fix in look.odd:
            book.add('warning', split.name, what, fix, path)
        if stated[path] not in (None, look.size):
            sizes = '{} x {}, image {} x {}'.format(*stated[path], *look.size)
            fix = 'Boxes count in the pixels of the image: look whether they fit'
            book.add('warning', split.name, 'images of another size than their annotation', fix, path, sizes)
    split.sizes.sort(key=lambda size: (size[0] * size[1], size))


def _list_left_out(split: Split, dataset: Any, folders: set[str], book: Book) -> None:
    """List files that the data set does not take, once for each folder."""
    folder = getattr(dataset, 'img_prefix', None)
    if folder is None or folder in folders:
        return
    folders.add(folder)
    for kind, path in left_out(dataset):
        book.add('warning', split.name, *OTHER_FILES[kind], path)
