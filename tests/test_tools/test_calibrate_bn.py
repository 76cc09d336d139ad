"""tools/calibrate_bn.py: whose statistics, of which file, into which file."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.config import read_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'


@pytest.fixture(scope='module')
def state():
    init_default_scope('mmpretrain')
    return MODELS.build(read_config(PRETRAIN).model).state_dict()


@pytest.fixture
def warnings(monkeypatch):
    """What is warned of."""
    said = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text, *_: said.append(text))
    return said


@pytest.fixture
def calibrate(run_tool):
    return lambda path, *args: run_tool('calibrate_bn', PRETRAIN, path, '--num-batches', 1, *args)


def load(path):
    return torch.load(path, weights_only=True)


def test_second_calibration_goes_to_the_file_of_the_first(calibrate, state, tmp_path):
    torch.save(dict(state_dict=state, meta=dict(epoch=3)), tmp_path / 'x.pth')
    calibrate(tmp_path / 'x.pth', '--widths', 1.0, 0.5)
    calibrate(tmp_path / 'x_calibrated.pth', '--widths', 0.3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.pth', 'x_calibrated.pth']
    found = load(tmp_path / 'x_calibrated.pth')
    assert {'backbone.bn1.running_mean_0_5', 'backbone.bn1.running_mean_0_3'} <= found['state_dict'].keys()
    meta = found['meta']
    assert (meta['epoch'], meta['input_size']) == (3, (16, 16))
    assert meta['backbone']['type'] == 'us3l_mm.SlimmableResNet_CIFAR' and set(meta['pixels']) == {'mean', 'std'}
    calibrate(tmp_path / 'x_calibrated.pth', '--widths', 0.3, '--out', tmp_path / 'y.pth')
    assert (tmp_path / 'y.pth').is_file()


def test_prefix_of_parallel_training_is_taken_off(calibrate, state, tmp_path):
    torch.save(dict(state_dict=state), tmp_path / 'x.pth')
    torch.save(dict(state_dict={f'module.{key}': value for key, value in state.items()}), tmp_path / 'ddp.pth')
    for name in ('x', 'ddp'):
        calibrate(tmp_path / f'{name}.pth', '--widths', 0.5)
    plain, parallel = (load(tmp_path / f'{name}_calibrated.pth')['state_dict'] for name in ('x', 'ddp'))
    assert plain.keys() == parallel.keys() and all(torch.equal(plain[key], parallel[key]) for key in plain)


@pytest.mark.parametrize(
    ('option', 'untrained', 'drawn'),
    [
        ('width_range=(0.5,0.9)', '1 0.25 layer3=0.6,layer4=0.3', 'widths from 0.5 to 0.9'),
        ('widths=[1.0,0.6]', '0.9 0.25 layer3=0.6,layer4=0.3', '[1.0, 0.6]'),
    ],
)
def test_widths_that_were_not_trained_are_told(calibrate, state, tmp_path, warnings, option, untrained, drawn):
    torch.save(dict(state_dict=state), tmp_path / 'x.pth')
    calibrate(tmp_path / 'x.pth', '--widths', 1.0, 0.25, 0.6, 'layer4=0.3')
    assert not warnings
    widths = [1.0, 0.9, 0.6, 0.25, 'layer3=0.6,layer4=0.3']
    calibrate(tmp_path / 'x.pth', '--widths', *widths, '--cfg-options', f'model.sampler.{option}')
    (said,) = warnings
    assert f'widths {untrained} were not trained' in said and said.endswith(f'draws {drawn}')


def test_images_of_another_size_than_in_training_are_told(calibrate, state, tmp_path, warnings):
    for size in (16, 24):
        torch.save(dict(state_dict=state, meta=dict(input_size=(size, size))), tmp_path / f'{size}.pth')
        calibrate(tmp_path / f'{size}.pth', '--widths', 0.5)
        assert load(tmp_path / f'{size}_calibrated.pth')['meta']['input_size'] == (size, size)
    (said,) = warnings
    assert 'was trained with images of 24 x 24, this config has 16 x 16' in said
