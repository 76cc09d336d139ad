"""Misspelt top-level keys are told, variables are not."""

import ast
from pathlib import Path

import mmdet
import mmpretrain
import pytest
from mmengine.config import Config

from builders import ROOT
from us3l_mm.config import read_config
from us3l_mm.config.check_keys import refuse_misspelt

OURS = sorted((*(ROOT / 'configs').rglob('*.py'), *(ROOT / 'projects').glob('*/configs/**/*.py')))
PACKAGES = [Path(package.__file__).parent for package in (mmdet, mmpretrain)]
STOCK = sorted(path for package in PACKAGES for path in (package / '.mim/configs').rglob('*.py'))


def top_level_names(path):
    """Names that a config file sets, without running it."""
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        for target in getattr(node, 'targets', [getattr(node, 'target', None)]):
            if isinstance(target, ast.Name):
                yield target.id


@pytest.mark.parametrize(
    'wrong, right',
    [
        ('optim_wraper', 'optim_wrapper'),
        ('mdoel', 'model'),
        ('train_dataloder', 'train_dataloader'),
        ('train_dataloaders', 'train_dataloader'),
        ('default_hook', 'default_hooks'),
        ('val_cgf', 'val_cfg'),
        ('model_wrapper_fcg', 'model_wrapper_cfg'),
        ('load_form', 'load_from'),
        ('widht', 'width'),
        ('dataroot', 'data_root'),
    ],
)
def test_misspelt_key_is_told_with_the_right_one(tmp_path, wrong, right):
    path = tmp_path / 'x.py'
    path.write_text(f"model = dict(type='X')\noptim_wrapper = dict()\n{wrong} = dict(a=1)\n")
    with pytest.raises(ValueError, match=f"key '{wrong}' of the config: did you mean '{right}'"):
        read_config(str(path))


def test_misspelt_key_of_the_command_line_or_below_a_base_is_told(tmp_path):
    (tmp_path / 'base.py').write_text("model = dict(type='X')\noptim_wrapper = dict(lr=1)\n")
    path = tmp_path / 'x.py'
    path.write_text("_base_ = ['base.py']\n")
    read_config(str(path))
    with pytest.raises(ValueError, match='optim_wrappr'):
        read_config(str(path), {'optim_wrappr.lr': 2})
    path.write_text("_base_ = ['base.py']\noptim_wraper = dict(lr=2)\n")
    with pytest.raises(ValueError, match='optim_wraper'):
        read_config(str(path))


@pytest.mark.parametrize('files', [OURS, STOCK], ids=['ours', 'stock'])
def test_no_config_that_is_right_is_refused(files):
    assert len(files) > 50
    for path in files:
        refuse_misspelt(Config({name: 1 for name in top_level_names(path) if name != '_base_'}))


@pytest.mark.parametrize('name', ['view', 'net', 'max_epochs', 'val_evaluator_2', '_modle', 'batch_size', 'tta_model'])
def test_variables_are_fine(name):
    refuse_misspelt(Config({'model': {}, name: 1}))
