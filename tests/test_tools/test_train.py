"""From the command line of tools/train.py to the config."""

import sys

import pytest

from builders import ROOT, load_script

pytestmark = pytest.mark.slow
train = load_script('train')


def wrapper(monkeypatch, *arguments):
    """The optimizer wrapper that a command line asks for."""
    monkeypatch.setattr(sys, 'argv', ['train.py', str(ROOT / 'configs/digits/r18_1xb64-16e_digits.py'), *arguments])
    return train.config_from_args(train.parse_args()).optim_wrapper


def test_precision_is_full_unless_asked_for(monkeypatch):
    assert 'Amp' not in wrapper(monkeypatch).type


@pytest.mark.parametrize('arguments', [['--amp'], ['--amp', 'float16']])
def test_amp_is_float16_with_a_loss_scale(monkeypatch, arguments):
    found = wrapper(monkeypatch, *arguments)
    assert (found.type, found.loss_scale) == ('AmpOptimWrapper', 'dynamic')


def test_bfloat16_has_no_loss_scale(monkeypatch):
    found = wrapper(monkeypatch, '--amp', 'bfloat16', '--cfg-options', 'optim_wrapper.loss_scale=512.0')
    assert found.type == 'us3l_mm.BFloat16OptimWrapper' and 'loss_scale' not in found


def test_bfloat16_would_round_the_boxes_of_two_stage_detectors(monkeypatch):
    config = str(ROOT / 'configs/det/faster-rcnn_r50_fpn_1x_coco.py')
    monkeypatch.setattr(sys, 'argv', ['train.py', config, '--amp', 'bfloat16'])
    with pytest.raises(SystemExit, match='--amp bfloat16 would round the boxes'):
        train.config_from_args(train.parse_args())


def test_missing_parts_are_allowed_by_an_option_alone(monkeypatch):
    for arguments, expected in ([], []), (['--allow-missing'], [True]):
        monkeypatch.setattr(sys, 'argv', ['train.py', str(ROOT / 'configs/digits/r18_1xb64-16e_digits.py'), *arguments])
        hooks = train.config_from_args(train.parse_args()).get('custom_hooks') or []
        assert [hook.allow_missing for hook in hooks if hook.type == 'us3l_mm.CheckLoadedHook'] == expected


def test_mistyped_config_ends_in_a_line(run_tool):
    with pytest.raises(SystemExit, match=r'^error: no config file .*did you mean configs/us3l/r18_4xb128\.py\?$'):
        run_tool('train', 'us3l/r18_4xb128.py')
