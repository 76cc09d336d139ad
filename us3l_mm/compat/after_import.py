"""Change modules of others right after they are imported: that takes seconds, and may never be."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Finder:
    """Finder of some modules, which runs a function with each right after it is imported."""

    def __init__(self, changes: dict[str, Callable[[ModuleType], None]]) -> None:
        self.changes = changes

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in self.changes else None
        if spec is not None:
            run = spec.loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                self.changes[name](module)

            spec.loader.exec_module = run_and_change
        return spec


def after_import(changes: dict[str, Callable[[ModuleType], None]]) -> None:
    """Call a function with each of some modules: now with those that are imported, later with the others.

    Args:
        changes (dict[str, Callable]): The function of each module, by its full name.
    """
    for name in changes.keys() & sys.modules.keys():
        changes[name](sys.modules[name])
    sys.meta_path.insert(0, _Finder(changes))
