"""Where the data of a config lies and which classes it has, each in one place of the config."""

import os.path as osp
from collections.abc import Sequence

from mmengine.config import Config

from .find import find_dicts

_DATA = tuple(f'{split}_{part}' for split in ('train', 'val', 'test') for part in ('dataloader', 'evaluator'))


def move_data(cfg: Config, old: str, new: str) -> Config:
    """Replace a folder by another one wherever data sets and evaluators name it or a path in it.

    Args:
        cfg (Config): Config; changed in place.
        old (str): Folder that the config was written for, its top-level ``data_root``.
        new (str): Folder where the data is.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If no data set names ``old``.
    """
    moved = 0
    for part in find_dicts([cfg.get(key) for key in _DATA]):
        for key, value in part.items():
            if isinstance(value, str) and osp.join(value, '').startswith(osp.join(old, '')):
                part[key] = osp.normpath(osp.join(new, osp.relpath(value, old)))
                moved += 1
    if not moved:
        raise ValueError(f'data_root={new} reaches no data set: none of this config lies in {old}')
    return cfg


def set_classes(cfg: Config, classes: Sequence[str] | str | None) -> Config:
    """Give all data sets these classes, and the heads as many outputs.

    Args:
        cfg (Config): Config of a detector; changed in place.
        classes (Sequence[str] | str): Names, in the order of their labels; one name may stand alone. Or a file
            ``*.txt`` with one name a line: spaces in names don't survive ``--cfg-options``.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If there is no name, or one occurs twice, or the model or the data loaders have nothing that
            depends on the classes.
    """
    if isinstance(classes, str) and classes.endswith('.txt'):
        with open(classes, encoding='utf-8') as file:
            classes = [line.strip() for line in file if line.strip()]
    names = tuple(str(name) for name in ([classes] if isinstance(classes, (str, int)) else classes or ()))
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f'classes must be one or more different names, got {classes}; for example --cfg-options classes=cat,dog'
        )
    loaders = [cfg.get(key) for key in _DATA if key.endswith('dataloader')]
    # Wrappers such as ConcatDataset hold data sets of their own, and have no classes.
    datasets = [
        part for part in find_dicts(loaders) if 'pipeline' in part and not part.keys() & {'dataset', 'datasets'}
    ]
    heads = [part for part in find_dicts(cfg.get('model')) if 'num_classes' in part]
    if not datasets or not heads:
        raise ValueError('classes cannot be set: the config has no data set with a pipeline, or no head of num_classes')
    for dataset in datasets:
        dataset.metainfo = {**(dataset.get('metainfo') or {}), 'classes': names}
    for head in heads:
        head.num_classes = len(names)
    cfg.classes = names
    return cfg
