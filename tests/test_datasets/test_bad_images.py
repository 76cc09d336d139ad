"""Folders and images that cannot be used are refused by name."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from us3l_mm.datasets import BadImageError


@pytest.fixture
def build(tmp_path):
    init_default_scope('mmpretrain')
    pipeline = [dict(type='LoadImageFromFile', _scope_='us3l_mm'), dict(type='PackInputs')]
    return lambda **kw: DATASETS.build(dict(type='CustomDataset', data_root=str(tmp_path), pipeline=pipeline, **kw))


def save(path):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.zeros((16, 16, 3), np.uint8))
    return path


@pytest.mark.parametrize('with_label', [True, False])
def test_empty_folder(build, tmp_path, with_label):
    with pytest.raises(RuntimeError, match=f'Found 0 files in subfolders of.*{tmp_path.name}.*Supported extensions'):
        build(with_label=with_label)


def test_images_without_classes_serve_pretraining_but_no_probe(build, tmp_path):
    save(tmp_path / '0.png')
    assert len(build(with_label=False)) == 1
    with pytest.raises(RuntimeError, match='Found 0 files in subfolders'):
        build(with_label=True)


@pytest.mark.parametrize('damage', [lambda data: data[:40], lambda data: b'no image', lambda data: b''])
def test_corrupt_image_is_named(build, tmp_path, damage):
    path = save(tmp_path / 'a' / 'broken.png')
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadImageError, match='cannot load the image .*broken.png: '):
        build()[0]
