"""The augmentations of every pretraining config run on real images and give two different views."""

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from sklearn.datasets import load_sample_images

from builders import ROOT

BASE = ROOT / 'configs/_base_/datasets'


@pytest.mark.parametrize('name, size', [('cifar100', 32), ('imagenet', 224), ('digits', 16)])
def test_two_views_of_the_right_size(name, size, tmp_path):
    init_default_scope('mmpretrain')
    for i, photo in enumerate(load_sample_images().images):
        cv2.imwrite(str(tmp_path / f'{i}.png'), photo)
    pipeline = list(Config.fromfile(BASE / f'{name}_us3l.py').train_dataloader.dataset.pipeline)
    if pipeline[0].type != 'LoadImageFromFile':
        pipeline.insert(0, dict(type='LoadImageFromFile'))  # the data set itself gives images there
    dataset = DATASETS.build(dict(type='CustomDataset', data_root=str(tmp_path), with_label=False, pipeline=pipeline))
    for i in range(2):
        first, second = dataset[i]['inputs']
        assert first.shape == second.shape == (3, size, size)
        assert first.dtype == torch.uint8 and not torch.equal(first, second)
