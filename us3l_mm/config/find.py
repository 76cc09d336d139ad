"""Look-ups in a config: its dicts, and the classes that they name."""

import inspect
from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict

from us3l_mm.registry import MODELS


def find_dicts(node: Any) -> Iterator[ConfigDict]:
    """All dicts in a part of a config."""
    if isinstance(node, dict):
        yield node
    if isinstance(node, (dict, list, tuple)):
        for child in list(node.values()) if isinstance(node, dict) else node:
            yield from find_dicts(child)


def find_class(kind: str | type | None, scope: str | None) -> type | None:
    """Class that a ``type`` of a model's config names, in any spelling; None if no registry knows it.

    Args:
        kind (str | type, optional): The ``type``.
        scope (str, optional): ``default_scope`` of the config.
    """
    if kind is None or isinstance(kind, type):
        return kind
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind)


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Arguments of the constructor of a class by name, those that it hands on to its bases among them."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if '__init__' in vars(base):
            own = inspect.signature(base.__init__).parameters
            found = {**own, **found}
            if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
                break
    skip = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: p for name, p in found.items() if name != 'self' and p.kind not in skip}
