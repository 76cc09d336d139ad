"""The detection set made of scikit-learn's digits and photographs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from builders import load_script
from us3l_mm.datasets import digit_photos

pytestmark = pytest.mark.slow

scenes = load_script('make_digit_scenes')


def make(folder, *options):
    scenes.main([str(folder), '--train', '6', '--val', '3', *options])
    return folder


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob('*') if path.is_file()}


def load(folder, split):
    return json.loads((folder / 'annotations' / f'{split}.json').read_text())


def test_annotations_describe_the_images(tmp_path):
    folder = make(tmp_path / 'set', '--size', '80')
    assert {path.name for path in folder.iterdir()} == {'annotations', 'train', 'val', 'scenes.json'}
    for split, count in (('train', 6), ('val', 3)):
        coco = load(folder, split)
        assert [category['name'] for category in coco['categories']] == list('0123456789')
        assert [image['id'] for image in coco['images']] == list(range(1, count + 1))
        assert len({box['id'] for box in coco['annotations']}) == len(coco['annotations'])
        for image in coco['images']:
            assert cv2.imread(str(folder / split / image['file_name'])).shape == (80, 80, 3)
            boxes = [box for box in coco['annotations'] if box['image_id'] == image['id']]
            assert 1 <= len(boxes) <= 4
            for box in boxes:
                x, y, width, height = box['bbox']
                assert 0 <= x < x + width <= 80 and 0 <= y < y + height <= 80
                assert box['area'] == width * height and 1 <= box['category_id'] <= 10
                assert 14 <= height <= 38


@pytest.mark.parametrize('seed', range(5))
def test_boxes_are_tight_around_the_ink(seed, monkeypatch):
    photo = np.full((200, 400, 3), 100, np.uint8)  # all that differs from it is ink
    monkeypatch.setattr(digit_photos, 'load_photos', lambda: [photo])
    digits, labels = digit_photos.load_digits('test')
    image, boxes, kept = scenes.make_scene(np.random.default_rng(seed), 'train', digits, labels, 96)
    assert len(kept) == len(boxes) >= 1
    ground = np.median(image.reshape(-1, 3), axis=0)  # digits cover less than half
    changed = np.abs(image - ground).max(axis=2)
    covered = np.zeros((96, 96), bool)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        covered[y1:y2, x1:x2] = True
        others = [box for j, box in enumerate(boxes) if j != i]
        assert all(scenes.iou((x1, y1, x2, y2), box) <= scenes.MAX_IOU for box in others)
        patch = changed[y1:y2, x1:x2]
        for edge in (patch[0], patch[-1], patch[:, 0], patch[:, -1]):
            assert edge.max() >= 15
    assert not changed[~covered].any()


def test_same_seed_same_files(tmp_path):
    first = files(make(tmp_path / 'a', '--seed', '3'))
    assert files(make(tmp_path / 'b', '--seed', '3')) == first
    other = files(make(tmp_path / 'c', '--seed', '4'))
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_identical_parameters_reuse_the_folder(tmp_path, capsys):
    folder = make(tmp_path / 'set')
    times = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
    make(folder)
    assert 'already' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob('*')} == times


def test_other_parameters_and_strangers_are_not_overwritten(tmp_path):
    folder = make(tmp_path / 'set')
    before = files(folder)
    with pytest.raises(SystemExit, match="scenes made with .*'seed': 0.* not overwritten; delete it"):
        make(folder, '--seed', '1')
    assert files(folder) == before
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('x')
    for stranger in (tmp_path / 'mine', tmp_path / 'mine' / 'thesis.txt'):
        with pytest.raises(SystemExit, match='did not make, and is not overwritten'):
            make(stranger)
    assert files(tmp_path / 'mine') == {'thesis.txt': b'x'}


def test_empty_folder_is_used_and_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    (tmp_path / 'set').mkdir()
    monkeypatch.setattr(scenes.cv2, 'imwrite', lambda *args: False)
    with pytest.raises(OSError, match='could not write'):
        make(tmp_path / 'set')
    assert list(tmp_path.iterdir()) == [tmp_path / 'set'] and not list((tmp_path / 'set').iterdir())
    monkeypatch.undo()
    assert len(load(make(tmp_path / 'set'), 'train')['images']) == 6


@pytest.mark.parametrize('option', [('--train', '0'), ('--val', '-1'), ('--size', '40'), ('--size', '500')])
def test_bad_options(tmp_path, option, capsys):
    with pytest.raises(SystemExit):
        scenes.main([str(tmp_path / 'set'), *option])
    assert 'must be' in capsys.readouterr().err
    assert not (tmp_path / 'set').exists()
