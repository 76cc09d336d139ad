"""Set the data folder and the classes of a whole config by one entry each."""

import os.path as osp
from collections.abc import Sequence

from mmengine.config import Config

from .find import find_dicts

_DATA = tuple(f'{split}_{part}' for split in ('train', 'val', 'test') for part in ('dataloader', 'evaluator'))


def move_data(cfg: Config, old: str, new: str) -> Config:
    """Replace the data folder in all paths of data sets and evaluators.

    Args:
        cfg (Config): Config; changed in place.
        old (str): Folder in the config, its top-level ``data_root``.
        new (str): Folder to name instead.

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
        raise ValueError(f'data_root={new} reaches no data set: none of this config lies in {old}; set their paths')
    return cfg


def set_classes(cfg: Config, classes: Sequence[str] | str | None) -> Config:
    """Set the classes of all data sets, and ``num_classes`` of the heads.

    Args:
        cfg (Config): Config of a detector; changed in place.
        classes (Sequence[str] | str): Names in the order of their labels; or one name; or a file ``*.txt`` with one
            name a line, for names with spaces, which ``--cfg-options`` cannot pass.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If there is no name, or one occurs twice; or if the config has no data set with a pipeline, or no
            head with ``num_classes``.
    """
    if isinstance(classes, str) and classes.endswith('.txt'):
        with open(classes, encoding='utf-8') as file:
            classes = [line.strip() for line in file if line.strip()]
    names = tuple(str(name) for name in ([classes] if isinstance(classes, (str, int)) else classes or ()))
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f'classes must be one or more different names, got {classes}; give for example classes=cat,dog'
        )
    loaders = [cfg.get(key) for key in _DATA if key.endswith('dataloader')]
    # Wrappers such as ConcatDataset have no classes, but the data sets inside them do.
    datasets = [
        part for part in find_dicts(loaders) if 'pipeline' in part and not part.keys() & {'dataset', 'datasets'}
    ]
    heads = [part for part in find_dicts(cfg.get('model')) if 'num_classes' in part]
    if not datasets or not heads:
        raise ValueError(
            'classes cannot be set: the config has no data set with a pipeline, or no head with num_classes; '
            'leave classes out'
        )
    for dataset in datasets:
        dataset.metainfo = {**(dataset.get('metainfo') or {}), 'classes': names}
    for head in heads:
        head.num_classes = len(names)
    cfg.classes = names
    return cfg
