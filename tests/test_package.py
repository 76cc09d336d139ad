"""What importing the package checks and provides."""

import ast
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import us3l_mm

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    'name, found, fix',
    [
        ('mmdet', '2.28.0', r'found 2\.28\.0\. Fix: pip install mmdet==3\.3\.0'),
        ('mmcv-lite', '2.2.0', r'mmcv or mmcv-lite >=2\.0\.1, <2\.2\.0, but found 2\.2\.0'),
        ('mmpretrain', None, r'mmpretrain >=1\.2\.0, <2\.0\.0, but it is not installed\. Fix: pip install'),
    ],
)
def test_wrong_or_missing_versions_name_the_fix(monkeypatch, name, found, fix):
    real = metadata.version

    def version(asked):
        if asked == 'mmcv' or (asked == name and found is None):
            raise metadata.PackageNotFoundError(asked)
        return found if asked == name else real(asked)

    monkeypatch.setattr(metadata, 'version', version)
    with pytest.raises(ImportError, match=fix):
        us3l_mm.prepare()


def test_types_are_found_by_scope_without_an_import():
    """Other people's configs need no custom_imports."""
    code = (
        'from mmengine.registry import MODELS, HOOKS, DATASETS\n'
        "net = MODELS.build(dict(type='us3l_mm.SlimmableResNet', depth=18, out_indices=(0, 1, 2, 3), width=0.5))\n"
        'assert net.out_channels == (32, 64, 128, 256), net.out_channels\n'
        "assert HOOKS.get('us3l_mm.NonFiniteHook') and DATASETS.get('us3l_mm.Digits')\n"
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def registered():
    """Names in each registry, from the decorators and calls in the source."""
    found = {}
    for path in Path(us3l_mm.__file__).parent.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            for call in [*getattr(node, 'decorator_list', []), node]:
                if isinstance(call, ast.Call) and getattr(call.func, 'attr', '') == 'register_module':
                    module = next((word.value.id for word in call.keywords if word.arg == 'module'), None)
                    if module or hasattr(node, 'name'):
                        found.setdefault(call.func.value.id, set()).add(module or node.name)
    return found


NAMES = registered()


FORKS = """
import importlib, json, os, sys
import mmengine.registry
import us3l_mm, us3l_mm.registry

def check(registry, names):
    root, ours = getattr(mmengine.registry, registry), getattr(us3l_mm.registry, registry)
    for name in names:
        found = root.get(f'us3l_mm.{name}')
        assert found is not None, name
        places = [ours.with_mmdet[name]] if name in ours.with_mmdet else ours._locations
        places = [*places, *['us3l_mm.slim'] * (ours.name in ('model', 'task util'))]  # registered by us3l_mm.models
        assert any(f'{found.__module__}.'.startswith(f'{place}.') for place in places), (found, places)

failed = []
for registry, names in json.loads(sys.argv[1]).items():
    assert not {'mmdet', 'mmpretrain', 'us3l_mm.models'} & set(sys.modules)
    child = os.fork()
    if child == 0:
        try:
            check(registry, names)
        except BaseException as error:
            print(f'{registry}: {type(error).__name__}: {error}', flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(registry)
print(json.dumps(failed))
"""


def test_every_type_is_found_in_a_process_that_imports_nothing_else():
    """One process for each registry, forked from one that has imported the package alone."""
    names = json.dumps({registry: sorted(NAMES[registry]) for registry in sorted(NAMES)})
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', FORKS, names], check=True, capture_output=True, text=True
    )
    *reasons, failed = done.stdout.splitlines()
    assert json.loads(failed) == [], '\n'.join(reasons)


def test_registered_names_were_found():
    assert (
        NAMES['FUNCTIONS'] == {'take_batch'}
        and len(NAMES['MODELS']) > 20
        and {'HOOKS', 'LOOPS', 'RUNNERS'} <= NAMES.keys()
    )


def test_pretraining_and_probing_do_without_mmdet():
    code = (
        'import sys\nsys.modules["mmdet"] = None\n'
        'import us3l_mm.models, us3l_mm.datasets, us3l_mm.engine, us3l_mm.evaluation, us3l_mm.visualization\n'
        'from mmengine.registry import MODELS, init_default_scope\n'
        'from us3l_mm.config import load_config\n'
        'from us3l_mm.deploy.plain_model import plain_model\n'
        "init_default_scope('mmpretrain')\n"
        'for path in sys.argv[1:]:\n'
        '    MODELS.build(load_config(path).model)\n'
        'plain_model(sys.argv[1], width=0.5)\n'
        'try:\n'
        "    MODELS.get('us3l_mm.SlimmableDetector')\n"
        'except ImportError as error:\n'
        "    assert 'SlimmableDetector needs mmdet' in str(error) and 'pip install mmdet' in str(error), error\n"
        'else:\n'
        "    raise AssertionError('found a detector without mmdet')\n"
    )
    configs = ['configs/digits/r18_1xb64-16e_digits.py', 'configs/digits/r18_1xb128-20e_digits.py']
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *configs], check=True)
