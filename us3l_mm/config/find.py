"""Look-ups in a config: its dicts, and the classes that they name."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from us3l_mm.registry import DATASETS, MODELS

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


def find_class(kind: str | type | None, scope: str | None, registry: Registry = MODELS) -> type | None:
    """Look up the class that a ``type`` names.

    Args:
        kind (str | type, optional): The ``type``: a name with or without scope, or the class itself.
        scope (str, optional): ``default_scope`` of the config.
        registry (Registry): Where to look. Defaults to that of models.

    Returns:
        type | None: None if there is no type, no registry knows it, or it is a function.
    """
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(scope) as scoped:
            kind = scoped.get(kind)
    return kind if isinstance(kind, type) else None


def names_scope(node: Any, scope: str) -> bool:
    """Whether any dict in a part of a config has a ``type`` of a scope.

    Args:
        node (Any): Part of a config.
        scope (str): Scope such as ``'us3l_mm'``. A type belongs to it if it is named
            ``'us3l_mm.X'``, or is a class or function that is defined in that package.
    """
    kinds = (part.get('type') for part in find_dicts(node))
    names = (kind if isinstance(kind, str) else f'{getattr(kind, "__module__", "")}.' for kind in kinds)
    return any('.' in name and name.split('.')[0] == scope for name in names)


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
