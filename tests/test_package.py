"""What importing the package checks and provides."""

import subprocess
import sys
from importlib import metadata

import pytest

import us3l_mm


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
        us3l_mm._check_versions()


def test_types_are_found_by_scope_without_an_import():
    """Other people's configs need no custom_imports."""
    code = (
        'from mmengine.registry import MODELS, HOOKS, DATASETS\n'
        "net = MODELS.build(dict(type='us3l_mm.SlimmableResNet', depth=18, out_indices=(0, 1, 2, 3), width=0.5))\n"
        'assert net.out_channels == (32, 64, 128, 256), net.out_channels\n'
        "assert HOOKS.get('us3l_mm.EpochSeedHook') and DATASETS.get('us3l_mm.Digits')\n"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
