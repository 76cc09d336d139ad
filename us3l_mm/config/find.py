"""Look-ups in a config: its dicts, and the classes that they name."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from us3l_mm.registry import DATASETS, find_class

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def find_dicts(node: Any) -> Iterator[ConfigDict]:
    """Yield every dict in a part of a config, from the outside in."""
    if isinstance(node, dict):
        yield node
    if isinstance(node, (dict, list, tuple)):
        for child in list(node.values()) if isinstance(node, dict) else node:
            yield from find_dicts(child)


def find_datasets(cfg: Config, loaders: Sequence[str] = LOADERS) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the data sets of a config with their place in it, such as ``'train_dataloader.dataset'``.

    Wrappers such as ConcatDataset are left out, the data sets inside them are not.

    Args:
        cfg (Config): Config.
        loaders (Sequence[str]): Entries to look in. Defaults to all data loaders.
    """

    def walk(node: Any, name: str) -> Iterator[tuple[str, ConfigDict]]:
        if isinstance(node, dict) and 'pipeline' in node and not node.keys() & {'dataset', 'datasets'}:
            yield name, node
        elif isinstance(node, (dict, list, tuple)):
            for key, child in node.items() if isinstance(node, dict) else enumerate(node):
                yield from walk(child, f'{name}.{key}')

    for key in loaders:
        yield from walk(cfg.get(key), key)


def build_lazily(part: ConfigDict, scope: str | None) -> Any:
    """Build a data set that has its paths and classes, and has read nothing."""
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.build({**part, 'pipeline': [], 'lazy_init': True})


def is_detector(cfg: Config) -> bool:
    """Whether the model of a config is one of mmdet's."""
    kind = find_class((cfg.get('model') or {}).get('type'), cfg.get('default_scope'))
    mmdet = sys.modules.get('mmdet.models')  # imported when find_class found a detector
    return kind is not None and mmdet is not None and issubclass(kind, mmdet.BaseDetector)


def names_scope(node: Any, scope: str) -> bool:
    """Whether any dict in a part of a config has a ``type`` of a scope.

    Args:
        node (Any): Part of a config.
        scope (str): Scope such as ``'us3l_mm'``. A type belongs to it if it is named
            ``'us3l_mm.X'``, has ``_scope_='us3l_mm'`` beside it, or is a class or function that is defined in that
            package.
    """
    parts = list(find_dicts(node))
    kinds = (part.get('type') for part in parts)
    names = (kind if isinstance(kind, str) else f'{getattr(kind, "__module__", "")}.' for kind in kinds)
    named = any('.' in name and name.split('.')[0] == scope for name in names)
    return named or any('type' in part and part.get('_scope_') == scope for part in parts)


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Collect the arguments of a constructor by name, with those that its ``**kwargs`` hand on to the bases."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if '__init__' in vars(base):
            own = inspect.signature(base.__init__).parameters
            found = {**own, **found}
            if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
                break
    skip = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: p for name, p in found.items() if name != 'self' and p.kind not in skip}
