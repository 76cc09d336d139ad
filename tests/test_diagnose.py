"""The report for bug reports: on one screen, without secrets, and where the package itself cannot be imported."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

import us3l_mm
from builders import ROOT
from us3l_mm import diagnose

Usage = namedtuple('Usage', 'total used free')


def run(code, tmp_path, **env):
    """Run Python from the root of the repository, with ``tmp_path`` before installed packages."""
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *code],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': path, **env},
        capture_output=True,
        text=True,
    )


def add_distribution(folder, name, version, *requires):
    folder = folder / f'{name}-{version}.dist-info'
    folder.mkdir()
    lines = ['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}']
    (folder / 'METADATA').write_text('\n'.join([*lines, *(f'Requires-Dist: {text}' for text in requires), '']))


@pytest.mark.slow
def test_report_fits_a_screen_and_has_no_secrets(tmp_path):
    # As if the environment were in the home folder, with a token among the variables.
    home = os.path.commonpath([sys.executable, sys.executable.rsplit('/bin/', 1)[0]])
    done = run(['-m', 'us3l_mm.diagnose'], tmp_path, HOME=home, WANDB_API_KEY='very secret', OMP_NUM_THREADS='1')
    assert done.returncode == ('wrong: ' in done.stdout), done.stderr
    assert done.stdout.count('\n') <= 40 and 'very secret' not in done.stdout and home not in done.stdout
    for name in ('mmengine', 'mmpretrain', 'numpy', 'pillow'):
        assert f'{name} {metadata.version(name)}' in done.stdout
    for text in (f'us3l_mm    {us3l_mm.__version__}', f'torch {torch.__version__}', 'OMP_NUM_THREADS 1', 'Python     '):
        assert text in done.stdout
    assert '~/bin/python' in done.stdout


@pytest.mark.slow
def test_report_goes_on_where_the_package_cannot_be_imported(tmp_path):
    add_distribution(tmp_path, 'mmpretrain', '1.0.0')
    add_distribution(tmp_path, 'mmengine', '0.9.0')
    failed = run(['-c', 'import us3l_mm'], tmp_path)
    assert failed.returncode and 'Fix: pip install mmpretrain==1.2.0' in failed.stderr
    done = run(['-m', 'us3l_mm.diagnose'], tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'wrong: us3l_mm needs mmpretrain >=1.2.0, <2.0.0, but found 1.0.0. Fix: pip install' in done.stdout
    assert 'wrong: us3l_mm needs mmengine >=0.10.0, <1.0.0, but found 0.9.0. Fix: pip install' in done.stdout
    assert 'compat     not in force' in done.stdout and 'disks      free' in done.stdout


@pytest.mark.slow
def test_report_goes_on_without_torch_and_mmengine(tmp_path):
    for name in ('torch', 'mmengine'):
        (tmp_path / f'{name}.py').write_text('raise OSError("libcudart.so not found")')
    done = run(['-m', 'us3l_mm.diagnose'], tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'wrong: import us3l_mm fails: OSError: libcudart.so not found' in done.stdout
    assert 'wrong: import torch fails: OSError: libcudart.so not found. Fix: ' in done.stdout


@pytest.mark.slow
def test_only_the_report_puts_the_checks_off(tmp_path):
    """Another module that is run by ``-m``, or an argument of that name, does not."""
    add_distribution(tmp_path, 'mmpretrain', '1.0.0')
    for code in (['-m', 'us3l_mm.version', 'us3l_mm.version'], ['-c', 'import us3l_mm', 'us3l_mm.diagnose']):
        failed = run(code, tmp_path)
        assert failed.returncode and 'ImportError: us3l_mm needs mmpretrain' in failed.stderr


def test_packages_that_ask_for_another_version_are_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    assert not list(diagnose.mixed_versions())
    add_distribution(tmp_path, 'numpy', '1.26.4')
    add_distribution(
        tmp_path, 'opencv_python', '5.0.0', 'numpy>=2', 'numpy>=9; extra == "more"', 'no-such-thing>=3', 'pillow>=3'
    )
    add_distribution(tmp_path, 'mmcv', '2.1.0')
    add_distribution(tmp_path, 'mmcv_lite', '2.1.0')
    add_distribution(tmp_path, 'onedl_mmengine', '0.10.12')
    mmengine = metadata.version('mmengine')
    assert list(diagnose.mixed_versions()) == [
        f'mmengine {mmengine}, onedl-mmengine 0.10.12 share a folder. Fix: pip uninstall mmengine onedl-mmengine, then '
        'install one of them',
        'mmcv 2.1.0, mmcv-lite 2.1.0 share a folder. Fix: pip uninstall mmcv mmcv-lite, then install one of them',
        "opencv-python 5.0.0 needs numpy>=2, found 1.26.4. Fix: pip install 'numpy>=2'",
    ]


def test_modules_that_cannot_be_imported_are_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'broken_abi.py').write_text('raise ImportError("numpy.core.multiarray failed to import\\nmore")')
    (tmp_path / 'needs_more.py').write_text('import no_such_thing')
    (tmp_path / 'needs_mmdet.py').write_text('raise ModuleNotFoundError("no mmdet", name="mmdet")')
    found = list(diagnose.failing_imports(('json', 'broken_abi', 'needs_more', 'needs_mmdet')))
    assert len(found) == 2
    assert found[0].startswith('import broken_abi fails: ImportError: numpy.core.multiarray failed to import. Fix: ')
    assert "No module named 'no_such_thing'. Fix: pip install no_such_thing" in found[1]


def torch_that(cuda='13.0', error=None):
    def ones(*_, **__):
        if error is not None:
            raise error
        return torch.ones(1)

    return SimpleNamespace(version=SimpleNamespace(cuda=cuda), __version__='2.11.0', ones=ones)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Write a command of that name that prints a text and ends with a status."""

    def write(text, status=0):
        script = tmp_path / 'nvidia-smi'
        script.write_text(f'#!/bin/sh\necho "{text}"\nexit {status}\n')
        script.chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)

    return write


@pytest.mark.parametrize(
    'found, expected',
    [
        (torch_that(cuda=None), 'nvidia-smi finds 1 GPU, but torch 2.11.0 is a build for the CPU. Fix: '),
        (torch_that(error=RuntimeError('driver too old\nmore')), 'on the GPU: RuntimeError: driver too old. Fix: '),
        (torch_that(), None),
    ],
)
def test_gpus_that_torch_cannot_use_are_told(found, expected, nvidia_smi):
    nvidia_smi('GPU 0: NVIDIA H200')
    faults = list(diagnose.unusable_gpus(found))
    assert len(faults) == (expected is not None) and all(expected in fault for fault in faults)


def test_hidden_gpus_and_a_broken_driver_are_told(nvidia_smi, monkeypatch):
    nvidia_smi('GPU 0: NVIDIA H200')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert list(diagnose.unusable_gpus(torch_that())) == [
        "CUDA_VISIBLE_DEVICES='' hides 1 GPU. Fix: unset CUDA_VISIBLE_DEVICES"
    ]
    nvidia_smi('Driver/library version mismatch', status=18)
    (fault,) = diagnose.unusable_gpus(torch_that())
    assert 'nvidia-smi fails: Driver/library version mismatch. Fix: ' in fault


def test_no_nvidia_smi_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert not list(diagnose.unusable_gpus(torch_that(cuda=None)))


def test_full_disks_are_told(monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(2**40, 0, 2**40))
    assert not list(diagnose.full_disks())

    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(2**26, 0, 2**26))
    monkeypatch.setattr(diagnose.tempfile, 'TemporaryFile', full)
    faults = list(diagnose.full_disks())
    assert 'temporary files cannot be written: OSError: [Errno 28]' in faults[0] and 'TMPDIR' in faults[0]
    assert 'checkpoints' in faults[1] and ('--shm-size' in faults[-1]) == os.path.isdir('/dev/shm')


def test_operators_and_topics_are_described():
    if 'mmcv' in diagnose.versions(('mmcv',)):
        assert diagnose.describe_operators() == 'all compiled, of full mmcv'
    else:
        assert diagnose.describe_operators().startswith('by torchvision: nms, roi_align_forward')
    assert diagnose.describe_compat(dict(a=True, b=False, c=True)) == 'in force: a, c; not needed: b'
    topics = us3l_mm.prepare()
    assert topics['pickles'] and topics['checkpoint'] and topics['numpy2'] == (metadata.version('numpy') >= '2')
