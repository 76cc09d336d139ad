"""The look at the data before a training: errors stop it, warnings are logged."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from us3l_mm.engine import CheckDataHook, check_data_hook

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


@pytest.fixture
def runner(tmp_path):
    """As much of a Runner as the hook asks for, with four images to train on."""
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    dataset = CustomDataset(data_root=str(tmp_path), with_label=False)
    return SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), val_loop=None)


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(check_data_hook, 'print_log', lambda text, logger, level: lines.append((text, level)))
    return lines


def test_sound_data_pass_without_a_word(runner, told):
    CheckDataHook().before_run(runner)
    assert not told


def test_bad_image_stops_with_its_name_and_the_fix(runner, tmp_path, told):
    (tmp_path / '2.png').write_text('text')
    with pytest.raises(ValueError, match=r'2\.png \(no image of a known format.*[\s\S]*Copy them[\s\S]*--no-check'):
        CheckDataHook().before_run(runner)


def test_bad_image_of_the_validation_stops_it_too(runner, tmp_path):
    good = tmp_path / 'train'
    good.mkdir()
    (tmp_path / '0.png').rename(good / '0.png')
    runner.val_loop, runner.val_dataloader = True, runner.train_dataloader
    dataset = CustomDataset(data_root=str(good), with_label=False)
    runner.train_dataloader = SimpleNamespace(dataset=dataset)
    (tmp_path / '2.png').write_text('text')
    with pytest.raises(ValueError, match=r'val: 2 images that cannot be read: .*0\.png \(No such file .*2\.png'):
        CheckDataHook().before_run(runner)


def test_odd_things_are_logged(runner, tmp_path, told):
    (tmp_path / 'notes.txt').write_text('text')
    CheckDataHook().before_run(runner)
    ((text, level),) = told
    assert level == logging.WARNING and text.startswith('train: 1 files of other extensions') and 'notes.txt' in text


def test_only_the_first_process_looks_and_all_stop(runner, tmp_path, monkeypatch, told):
    (tmp_path / '2.png').write_text('text')
    (tmp_path / 'notes.txt').write_text('text')
    monkeypatch.setattr(check_data_hook, 'is_main_process', lambda: False)
    monkeypatch.setattr(check_data_hook, 'check_data', lambda *_: pytest.fail('looked'))
    CheckDataHook().before_run(runner)
    monkeypatch.setattr(check_data_hook, 'broadcast_object_list', lambda box: box.__setitem__(0, 'what it found'))
    with pytest.raises(ValueError, match='what it found'):
        CheckDataHook().before_run(runner)


@pytest.mark.parametrize('sample', [-1, 0.5, True])
def test_sample_is_a_number_of_images(sample):
    with pytest.raises((TypeError, ValueError), match='sample'):
        CheckDataHook(sample=sample)
