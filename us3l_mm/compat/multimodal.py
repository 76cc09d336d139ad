"""Let mmpretrain import beside a transformers that its multimodal models do not know.

mmpretrain takes any transformers from 4.28 on for its own and then imports its multimodal models and data sets, whose
classes derive from names that newer releases moved: ``import mmpretrain.models`` dies of "NoneType takes no arguments".
Where such a name is missing, mmpretrain is told that transformers is not there.

Obsolete with an mmpretrain that looks for the names that it uses: none yet (mmpretrain 1.2.0).
"""

import ast
import importlib
import importlib.util
from pathlib import Path


def names_of_transformers(folder: Path) -> set[tuple[str, str]]:
    """Module and name of everything that the Python files of a folder import from transformers when they are imported.

    Imports inside functions don't count.
    """
    found = set()
    for path in folder.rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        todo = list(ast.parse(text).body) if 'transformers' in text else []
        while todo:
            node = todo.pop()
            if isinstance(node, ast.ImportFrom) and not node.level and node.module.split('.')[0] == 'transformers':
                found |= {(node.module, alias.name) for alias in node.names}
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                todo += ast.iter_child_nodes(node)
    return found


def is_there(module: str, name: str) -> bool:
    """Whether ``from module import name`` works."""
    try:
        return hasattr(importlib.import_module(module), name)
    except Exception:  # whatever a release raises where it lacks something of its own
        return False


def apply() -> bool:
    """Switch mmpretrain's multimodal models and data sets off where transformers lacks a name that they import."""
    if importlib.util.find_spec('transformers') is None:
        return False
    from mmpretrain.utils import dependency

    if not dependency.WITH_MULTIMODAL:
        return False
    folder = Path(dependency.__file__).parents[1]
    dependency.WITH_MULTIMODAL = all(is_there(*name) for name in sorted(names_of_transformers(folder)))
    return not dependency.WITH_MULTIMODAL
