"""The rooms of the package: who imports whom, and how long their functions are."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'us3l_mm'
# From the bottom: a room imports from those before it. `slim` needs torch only; compat is the package's own affair.
ORDER = (
    'version',
    'slim',
    'utils',
    'registry',
    'models',
    'datasets',
    'engine',
    'config',
    'deploy',
    'evaluation',
    'visualization',
    'diagnose',
)
SLIM_MAY_IMPORT = {'torch', 'us3l_mm'}
FILES = sorted(PACKAGE.rglob('*.py'))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imported_modules(path):
    """Full names of the modules that a file imports from, wherever the import stands."""
    package = ['us3l_mm', *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            yield '.'.join([*base, *(node.module or '').split('.')]).rstrip('.')
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def rooms_imported(path):
    names = (name.split('.') for name in imported_modules(path) if name.split('.')[0] == 'us3l_mm')
    return {parts[1] for parts in names if len(parts) > 1}


def test_every_room_has_its_place():
    rooms = {room_of(path) for path in FILES} - {'__init__'}
    assert rooms == {*ORDER, 'compat'}


@pytest.mark.parametrize('room', ORDER)
def test_no_import_points_upwards(room):
    above = set(ORDER[ORDER.index(room) + 1 :]) | {'compat'}
    faults = {
        str(path.relative_to(PACKAGE)): sorted(rooms_imported(path) & above)
        for path in FILES
        if room_of(path) == room and rooms_imported(path) & above
    }
    assert not faults


def test_only_the_package_itself_imports_compat():
    users = {path for path in FILES if 'compat' in rooms_imported(path)}
    assert {path.relative_to(PACKAGE).parts[0] for path in users} <= {'__init__.py', 'compat'}


def test_slim_needs_torch_only():
    known = SLIM_MAY_IMPORT | sys.stdlib_module_names
    for path in FILES:
        if room_of(path) == 'slim':
            assert {name.split('.')[0] for name in imported_modules(path)} <= known, path


def test_no_private_name_crosses_a_module():
    faults = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').startswith('us3l_mm')):
                faults += [
                    f'{path.name}: {alias.name}' for alias in node.names if alias.name[0] == '_' != alias.name[1]
                ]
    assert not faults


def test_functions_have_under_50_lines():
    long = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 >= 50:
                long.append(f'{path.name}: {node.name}')
    assert not long


def test_projects_are_not_imported():
    names = {path.stem for path in (PACKAGE.parent / 'projects').rglob('*.py')}
    for path in FILES:
        assert not {name.split('.')[0] for name in imported_modules(path)} & names, path
