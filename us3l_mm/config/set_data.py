"""Set the data folder and the classes of a whole config by one entry each."""

import logging
import os.path as osp
import re
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.logging import print_log

from .find import find_datasets, find_dicts

_SPLITS = ('train', 'val', 'test')
_PARTS = (*(f'{split}_{part}' for split in _SPLITS for part in ('dataloader', 'evaluator')), 'custom_hooks')
_ROOT = re.compile(r'^data_root\s*=\s*(?:([\'"])(.*?)\1)?', re.MULTILINE)


def _inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, judged by their names."""
    path, folder = osp.normpath(path), osp.normpath(folder)
    return osp.join(path, '').startswith(osp.join(folder, ''))


def _move(cfg: Config, old: str, new: str) -> int:
    """Replace a folder in all paths of data sets, evaluators and hooks, and count them."""
    moved = 0
    for part in find_dicts([cfg.get(key) for key in _PARTS]):
        for key, value in part.items():
            if isinstance(value, str) and _inside(value, old):
                part[key] = osp.normpath(osp.join(new, osp.relpath(value, old)))
                moved += 1
    return moved


def _roots(cfg: Config) -> list[str]:
    """List ``data_root`` of all data sets that have one."""
    return [part.data_root for _, part in find_datasets(cfg) if part.get('data_root')]


def _common_root(cfg: Config, new: str) -> str:
    """Find the one ``data_root`` of all data sets that do not have the new one yet.

    Raises:
        ValueError: If there is none, or more than one.
    """
    roots = {root for root in _roots(cfg) if osp.normpath(root) != osp.normpath(new)}
    if len(roots) != 1:
        found = ', '.join(sorted(roots)) or 'none'
        raise ValueError(f'data_root={new} has no single folder to replace, got {found}; set that of each data set')
    return roots.pop()


def move_data(cfg: Config, old: str | None, new: str) -> Config:
    """Replace the data folder in all paths of data sets and evaluators.

    Args:
        cfg (Config): Config; changed in place.
        old (str, optional): Folder in the config, its top-level ``data_root``. If no data set lies there, the one
            ``data_root`` of all data sets is replaced.
        new (str): Folder to name instead.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If no data set names ``old``, and they lie in several folders.
    """
    if old is None or not any(_inside(root, old) for root in _roots(cfg)):
        old = _common_root(cfg, new)
    _move(cfg, old, new)
    return cfg


def apply_own_root(cfg: Config) -> Config:
    """Let a top-level ``data_root`` that a config file writes mean the same as one on the command line.

    Data sets and evaluators that come from base configs name the folder that is written there, so it is replaced.
    If any data set lies elsewhere, the file has set its paths itself, and nothing changes.

    Args:
        cfg (Config): Config that was read from a file; changed in place.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If the file writes ``data_root``, no base does, and the data sets lie in different folders.
    """
    new, roots = cfg.get('data_root'), _roots(cfg)
    if not isinstance(new, str) or not roots or any(_inside(root, new) for root in roots):
        return cfg
    bases, _, own = cfg.text.rpartition(f'{osp.abspath(cfg.filename)}\n')
    written = {match[2] for match in _ROOT.finditer(bases) if match[2]} - {new}
    if not written and _ROOT.search(own):
        written = {_common_root(cfg, new)}
    if all(any(_inside(root, old) for old in written) for root in roots):
        for old in written:
            _move(cfg, old, new)
    else:
        text = f'the top-level data_root={new} is that of no data set: they lie in {", ".join(sorted(set(roots)))}'
        print_log(text, 'current', logging.WARNING)
    return cfg


def read_names(classes: Sequence[str] | str | None) -> tuple[str, ...]:
    """Read names of classes.

    Args:
        classes (Sequence[str] | str, optional): See :func:`set_classes`.

    Raises:
        ValueError: If there is no name, or one occurs twice.
    """
    if isinstance(classes, str) and classes.endswith('.txt'):
        with open(classes, encoding='utf-8-sig') as file:
            found = file.read().splitlines()
    else:
        found = [classes] if isinstance(classes, (str, int)) else classes or ()
    names = tuple(name for name in (str(name).strip() for name in found) if name)
    if not names or len(set(names)) < len(names):
        twice = ', '.join(name for name in dict.fromkeys(names) if names.count(name) > 1)
        raise ValueError(
            f'classes must be one or more different names, got {classes}{f" with {twice} twice" if twice else ""}; '
            'give for example classes=cat,dog'
        )
    return names


def set_classes(cfg: Config, classes: Sequence[str] | str | None) -> Config:
    """Set the classes of all data sets, and ``num_classes`` of the heads.

    Args:
        cfg (Config): Config of a detector or a classifier; changed in place.
        classes (Sequence[str] | str): Names in the order of their labels; or one name; or a file ``*.txt`` with one
            name a line, for names with spaces, which ``--cfg-options`` cannot pass.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If there is no name, or one occurs twice; or if the config has no data set with a pipeline, or no
            head with ``num_classes``.
    """
    names = read_names(classes)
    datasets = [part for _, part in find_datasets(cfg)]
    if not datasets or not set_num_classes(cfg, len(names)):
        raise ValueError(
            'classes cannot be set: the config has no data set with a pipeline, or no head with num_classes; '
            'leave classes out'
        )
    for dataset in datasets:
        dataset.metainfo = {**(dataset.get('metainfo') or {}), 'classes': names}
    cfg.classes = names
    return cfg


def set_num_classes(cfg: Config, count: int) -> list[int]:
    """Set ``num_classes`` of all heads.

    Args:
        cfg (Config): Config; changed in place.
        count (int): Number of classes.

    Returns:
        list[int]: What stood there.
    """
    heads = [part for part in find_dicts(cfg.get('model')) if 'num_classes' in part]
    before = [head.num_classes for head in heads]
    for head in heads:
        head.num_classes = count
    return before
