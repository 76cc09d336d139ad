"""tools/check_data.py from the command line to its files, and the look that tools/train.py takes."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from builders import load_script
from us3l_mm.datasets import IMAGE_EXTENSIONS

pytestmark = pytest.mark.usefixtures('parse_once')
PRETRAINING, PROBE = 'configs/us3l/r18_4xb128.py', 'configs/linear/r18_4xb512-60e_in1k.py'
VOC, DIGITS = 'configs/det/faster-rcnn_r50_fpn_voc-custom.py', 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'


@pytest.fixture
def folders(tmp_path):
    """Images of noise in folders of two classes, six in each of two splits."""
    for number, split in enumerate(['train', 'val']):
        for label, name in enumerate(['cat', 'dog']):
            place = tmp_path / 'data' / split / name
            place.mkdir(parents=True)
            for i in range(6):
                pixels = np.random.default_rng([number, label, i]).integers(0, 256, (24, 32, 3), np.uint8)
                Image.fromarray(pixels).save(place / f'{i}.png')
    return tmp_path / 'data'


def written(out):
    report = json.loads((out / 'check.json').read_text())
    with open(out / 'check.csv', newline='') as file:
        return report, list(csv.DictReader(file))


def is_page(path):
    """Whether it is a picture on which there is something besides white."""
    pixels = np.asarray(Image.open(path).convert('L'))
    return min(pixels.shape) > 100 and pixels.std() > 10


def test_sound_folders_pass(folders, tmp_path, run_tool, capsys):
    run_tool('check_data', PROBE, '--out', tmp_path / 'out', '--cfg-options', f'data_root={folders}')
    text = capsys.readouterr().out
    assert '| train | 12 | 12 | 32 x 24 | 32 x 24 | 32 x 24 | 2 | – | – |' in text
    assert '| val and test | 12 |' in text and '| cat | 6 | 6 |' in text and '0 errors, 0 warnings' in text
    report, rows = written(tmp_path / 'out')
    assert [split['count'] for split in report['splits']] == [{'cat': 6, 'dog': 6}] * 2
    assert report['findings'] == rows == []
    assert is_page(tmp_path / 'out/samples_train.png') and is_page(tmp_path / 'out/samples_val.png')


def test_bad_image_is_an_error_and_a_leak_a_warning(folders, tmp_path, run_tool, capsys):
    (folders / 'train/cat/0.png').write_bytes(b'')
    shutil.copy(folders / 'train/dog/1.png', folders / 'val/dog/1.png')
    with pytest.raises(SystemExit) as ended:
        run_tool('check_data', PROBE, '--out', tmp_path / 'out', '--cfg-options', f'data_root={folders}')
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert f'error: train: 1 images that cannot be read: {folders}/train/cat/0.png (the file is empty)' in text
    assert '1 errors, 1 warnings' in text
    report, rows = written(tmp_path / 'out')
    assert (
        [row['level'] for row in rows] == [finding['level'] for finding in report['findings']] == ['error', 'warning']
    )
    assert rows[1]['name'] == f'{folders}/val/dog/1.png' and rows[1]['split'] == 'train, val and test'
    assert is_page(tmp_path / 'out/samples_train.png')


def test_views_of_a_pretraining_are_drawn_as_the_model_gets_them(folders, tmp_path, run_tool):
    for path in folders.rglob('*.png'):
        Image.new('RGB', (24, 24), 'red').save(path)
    view = [dict(type='Resize', scale=(24, 24))]
    config = tmp_path / 'views.py'
    pipeline = [
        dict(type='LoadImageFromFile', _scope_='us3l_mm'),
        dict(type='MultiView', num_views=2, transforms=[view]),
        dict(type='PackInputs'),
    ]
    cfg = Config.fromfile(PRETRAINING)
    cfg.merge_from_dict({'train_dataloader.dataset.pipeline': pipeline, 'data_root': f'{folders}'})
    cfg.train_dataloader.dataset.data_root = str(folders)
    cfg.dump(config)
    run_tool('check_data', config, '--out', tmp_path / 'out')
    pixels = np.asarray(Image.open(tmp_path / 'out/samples_train.png').convert('RGB'))
    red = (pixels == (255, 0, 0)).all(-1)
    assert red.mean() > 0.5  # 12 squares of the colour of the files, neither blue nor normalised


def test_sample_is_told(folders, run_tool, capsys):
    run_tool('check_data', PROBE, '--sample', 5, '--cfg-options', f'data_root={folders}')
    assert 'train: a sample of 5 of 12 images was decoded; --sample 0: all' in capsys.readouterr().out


def test_folder_that_is_no_class_is_an_error(folders, run_tool):
    (folders / 'val/cat').rename(folders / 'val/catt')
    with pytest.raises(SystemExit, match=r"error: .*val has folders .*'catt' \(did you mean 'cat'\?\)"):
        run_tool('check_data', PROBE, '--cfg-options', f'data_root={folders}')


def test_folder_of_ones_own_is_divided_as_the_training_does(folders, tmp_path, run_tool, capsys):
    run_tool('check_data', PROBE, '--out', tmp_path, '--data-root', folders / 'train', '--val-fraction', 0.5)
    splits = written(tmp_path)[0]['splits']
    assert [split['count'] for split in splits] == [{'cat': 3, 'dog': 3}] * 2
    assert '0 errors, 0 warnings' in capsys.readouterr().out


def test_missing_set_is_an_error(tmp_path, run_tool):
    with pytest.raises(SystemExit, match='error: .*no .*nowhere'):
        run_tool('check_data', PRETRAINING, '--cfg-options', f'data_root={tmp_path}/nowhere')


def test_pretraining_finds_all_images_that_load():
    assert tuple(Config.fromfile(PRETRAINING).train_dataloader.dataset.extensions) == IMAGE_EXTENSIONS


def test_detection_set_is_drawn_and_its_boxes_counted(digit_scenes, tmp_path, run_tool, capsys):
    run_tool('check_data', DIGITS, '--out', tmp_path, '--cfg-options', f'data_root={digit_scenes}')
    assert '| train | 4 | 4 |' in capsys.readouterr().out
    report, _ = written(tmp_path)
    boxes = json.loads((digit_scenes / 'annotations/train.json').read_text())['annotations']
    assert report['splits'][0]['boxes'] == sum(report['splits'][0]['count'].values()) == len(boxes)
    assert is_page(tmp_path / 'samples_train.png') and is_page(tmp_path / 'samples_val.png')


@pytest.fixture
def scenes(digit_scenes, tmp_path):
    """A copy to spoil: the folder, and a function that changes the annotations of the training."""
    folder = tmp_path / 'scenes'
    shutil.copytree(digit_scenes, folder)
    path = folder / 'annotations/train.json'

    def change(how):
        content = json.loads(path.read_text())
        how(content)
        path.write_text(json.dumps(content))

    return folder, change


def test_boxes_that_cannot_be_used_and_images_without_boxes_are_found(scenes, run_tool, capsys):
    folder, change = scenes

    def spoil(content):
        first = content['images'][0]['id']
        content['annotations'] = [item for item in content['annotations'] if item['image_id'] != first]
        content['annotations'][0]['bbox'][2] = 0

    change(spoil)
    with pytest.raises(SystemExit) as ended:
        run_tool('check_data', DIGITS, '--cfg-options', f'data_root={folder}')
    text = capsys.readouterr().out
    assert ended.value.code == 1 and 'error: train: 1 boxes without area, left out' in text
    row = next(line for line in text.splitlines() if line.startswith('| train |'))
    assert row.endswith('| 1 |')  # without boxes


@pytest.mark.parametrize('content', ['', '{}'])
def test_unusable_annotation_file_is_an_error_and_the_other_split_is_looked_at(scenes, run_tool, capsys, content):
    folder, _ = scenes
    (folder / 'annotations/train.json').write_text(content)
    with pytest.raises(SystemExit) as ended:
        run_tool('check_data', DIGITS, '--cfg-options', f'data_root={folder}')
    text = capsys.readouterr().out
    assert ended.value.code == 1 and 'error: train: 1 ' in text and 'train.json' in text
    assert ('empty annotation files' in text) == (content == '') and '| val and test | 2 | 2 |' in text


def test_training_looks_at_the_data_unless_told_otherwise(monkeypatch):
    train = load_script('train')
    for arguments, expected in ([], 1), (['--no-check'], 0):
        monkeypatch.setattr(sys, 'argv', ['train.py', 'configs/digits/r18_1xb64-16e_digits.py', *arguments])
        hooks = train.config_from_args(train.parse_args()).get('custom_hooks') or []
        assert sum(hook.type == 'us3l_mm.CheckDataHook' for hook in hooks) == expected


@pytest.mark.slow
def test_training_stops_before_its_first_iteration(folders, tmp_path, run_tool):
    (folders / 'train/cat/3.png').write_bytes(b'')
    options = [f'data_root={folders}', 'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0']
    with pytest.raises(ValueError, match='the data cannot be used:\ntrain: 1 images that cannot be read.*3.png'):
        run_tool('train', PRETRAINING, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert not list((tmp_path / 'work').glob('*.pth'))
