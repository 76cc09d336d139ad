"""What importing the package checks and provides, in a checkout and from a wheel."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import us3l_mm
from builders import ROOT

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


def test_forks_are_taken_by_their_own_names_and_versions(monkeypatch):
    found = {'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmpretrain': '1.3.6'}

    def version(asked):
        if asked not in found:
            raise metadata.PackageNotFoundError(asked)
        return found[asked]

    monkeypatch.setattr(metadata, 'version', version)
    assert us3l_mm.version_faults() == []
    found |= {'onedl-mmcv': '2.1.0', 'onedl-mmdetection': '3.5.1'}
    (fault,) = us3l_mm.version_faults()
    assert 'needs onedl-mmcv >=2.3.6, <3.0.0, but found 2.1.0. Fix: pip install --no-deps onedl-mmcv==2.3.6' in fault


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


OTHERS_TOOLS = """
import os, runpy, sys
from importlib.util import find_spec
from mmengine.runner import Runner

Runner.train = lambda runner: print('backbone:', type(runner.model.backbone).__module__, flush=True)
for library, config in zip(('mmdet', 'mmpretrain'), sys.argv[1:]):
    child = os.fork()
    if child == 0:
        assert 'us3l_mm' not in sys.modules
        sys.argv = ['train.py', config, '--work-dir', os.path.dirname(config)]
        runpy.run_path(os.path.dirname(find_spec(library).origin) + '/.mim/tools/train.py', run_name='__main__')
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_custom_imports_are_enough_under_others_tools(tmp_path):
    """mmdet's and mmpretrain's own train.py, each in a process that knows nothing of us."""
    configs = {
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py': 'neck=dict(in_channels=[32, 64, 128, 256])',
        'mmpretrain::resnet/resnet18_8xb32_in1k.py': 'head=dict(in_channels=256)',
    }
    paths = []
    for base, rest in configs.items():
        paths.append(tmp_path / f'{base.partition(":")[0]}.py')
        backbone = "backbone=dict(type='us3l_mm.SlimmableResNet', width=0.5, init_cfg=None)"
        imports = "custom_imports = dict(imports=['us3l_mm'])"
        paths[-1].write_text(f"_base_ = '{base}'\n{imports}\nmodel = dict({backbone}, {rest})\n")
    command = [sys.executable, '-W', 'ignore', '-c', OTHERS_TOOLS, *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith('backbone:')]
    assert found == ['backbone: us3l_mm.models.backbones.resnet'] * 2, done.stdout + done.stderr


def test_wheel_brings_configs_tools_and_the_command(tmp_path):
    """Built from a copy, unpacked, and used from an empty folder without a checkout in sight."""
    junk = shutil.ignore_patterns('.*cache', '__pycache__', '*.egg-info', 'build', 'dist')
    for name in ('configs', 'tools', 'us3l_mm', 'requirements'):
        shutil.copytree(ROOT / name, tmp_path / 'source' / name, symlinks=True, ignore=junk)
    for name in ('setup.py', 'README.md', 'LICENSE', 'model-index.yml'):
        shutil.copy(ROOT / name, tmp_path / 'source')
    pip = [
        sys.executable,
        '-m',
        'pip',
        '-q',
        '--disable-pip-version-check',
        'wheel',
        '--no-deps',
        '--no-build-isolation',
    ]
    subprocess.run([*pip, '-w', tmp_path, tmp_path / 'source'], check=True, capture_output=True)
    shutil.rmtree(tmp_path / 'source')
    (wheel,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / 'site')
    mim = tmp_path / 'site/us3l_mm/.mim'
    for folder in ('configs', 'tools'):
        names = {
            path.relative_to(ROOT) for path in ROOT.glob(f'{folder}/**/*') if path.suffix in {'.py', '.yml', '.sh'}
        }
        assert {name for name in names if not (mim / name).is_file()} == {n for n in names if n.parts[1] == 'dev'}
    (script,) = tmp_path.glob('site/*.data/scripts/us3l')
    (tmp_path / 'empty').mkdir()
    command = [sys.executable, '-W', 'ignore', script, 'analyze-widths', 'us3l_mm::digits/r18_1xb64-16e_digits.py']
    subprocess.run(
        [*command, '--widths', '1.0', '0.5', '--no-latency', '--out', 'costs'],
        cwd=tmp_path / 'empty',
        env={**os.environ, 'PYTHONPATH': str(tmp_path / 'site')},
        check=True,
        capture_output=True,
    )
    rows = json.loads((tmp_path / 'empty/costs.json').read_text())['widths']
    assert [row['params'] for row in rows] == [700_176, 175_752]  # as the README has them
