"""The size of images by a config, against pipelines that run on images."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from us3l_mm.config import input_size, load_config

PACK = dict(type='PackInputs')


def config(*pipeline, loader='test_dataloader', scope='mmpretrain', **model):
    return Config({'default_scope': scope, 'model': model, loader: dict(dataset=dict(type='X', pipeline=pipeline))})


CLASSIFIERS = [
    ([dict(type='Resize', scale=16)], (16, 16)),
    ([dict(type='Resize', scale=(40, 24))], (24, 40)),
    ([dict(type='ResizeEdge', scale=40, edge='short'), dict(type='CenterCrop', crop_size=32)], (32, 32)),
    ([dict(type='Resize', scale=40), dict(type='CenterCrop', crop_size=(32, 20))], (20, 32)),
    ([dict(type='EfficientNetCenterCrop', crop_size=24)], (24, 24)),
    ([dict(type='RandomResizedCrop', scale=(20, 28)), dict(type='RandomFlip', prob=0.5)], (20, 28)),
    ([dict(type='RandomCrop', crop_size=(20, 28))], (20, 28)),
    ([dict(type='Resize', scale=24), dict(type='Pad', size=(40, 30))], (30, 40)),
    ([dict(type='Resize', scale=(40, 24)), dict(type='Pad', pad_to_square=True)], (40, 40)),
    ([dict(type='Resize', scale=20), dict(type='Pad', size_divisor=16)], (32, 32)),
    (
        [
            dict(type='NumpyToPIL'),
            dict(type='torchvision/Resize', size=40),
            dict(type='torchvision/CenterCrop', size=(20, 28)),
            dict(type='PILToNumpy'),
        ],
        (20, 28),
    ),
    (
        [
            dict(type='NumpyToPIL'),
            dict(type='torchvision/RandomAffine', degrees=5, scale=(1, 2)),  # no size, by the name of one
            dict(type='torchvision/RandomResizedCrop', size=24, scale=(0.5, 1)),
            dict(type='PILToNumpy'),
        ],
        (24, 24),
    ),
]


@pytest.mark.parametrize(('pipeline', 'size'), CLASSIFIERS)
def test_size_is_that_of_images_that_went_through(pipeline, size):
    init_default_scope('mmpretrain')
    for shape in ((50, 60), (70, 45)):
        image = np.random.randint(0, 255, (*shape, 3), dtype=np.uint8)
        assert Compose(pipeline)(dict(img=image, img_shape=shape))['img'].shape[:2] == size
    assert input_size(config(*pipeline, PACK)) == size


@pytest.mark.parametrize(
    ('pipeline', 'divisor', 'size'),
    [
        ([dict(type='Resize', scale=(1333, 800), keep_ratio=True)], 32, (800, 1344)),
        ([dict(type='Resize', scale=(48, 64), keep_ratio=True)], 1, (48, 64)),
        ([dict(type='Resize', scale=(64, 48))], 1, (48, 64)),
        ([dict(type='FixShapeResize', width=40, height=24)], 1, (24, 40)),
        ([dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='Pad', size=(64, 80))], 1, (80, 64)),
    ],
)
def test_size_of_detectors_is_of_the_padded_image(pipeline, divisor, size):
    assert input_size(config(*pipeline, scope='mmdet', data_preprocessor=dict(pad_size_divisor=divisor))) == size


def test_size_of_a_pretraining_is_of_its_views():
    view = [dict(type='RandomResizedCrop', scale=64), dict(type='RandomApply', transforms=[dict(type='ColorJitter')])]
    views = dict(type='MultiView', num_views=2, transforms=[view])
    assert input_size(config(views, PACK, loader='train_dataloader')) == (64, 64)
    on_device = dict(type='us3l_mm.BatchedViewsPreprocessor', transforms=[view])
    assert input_size(config(loader='train_dataloader', data_preprocessor=on_device)) == (64, 64)


def test_tests_count_before_training_and_training_where_they_leave_it_open():
    train = dict(dataset=dict(type='X', pipeline=[dict(type='RandomCrop', crop_size=32), PACK]))
    for test, size in (([dict(type='Resize', scale=24)], 24), ([], 32), ([dict(type='ResizeEdge', scale=40)], 32)):
        cfg = config(*test, PACK)
        cfg.train_dataloader = train
        assert input_size(cfg) == (size, size)


@pytest.mark.parametrize('pipeline', [[], [dict(type='ResizeEdge', scale=40)], [dict(type='Resize', scale_factor=0.5)]])
def test_open_sizes_are_none(pipeline):
    assert input_size(config(*pipeline, PACK)) is None
    assert input_size(Config()) is None


def test_config_of_a_training_has_its_size():
    assert load_config('configs/digits/r18_1xb64-16e_digits.py').input_size == (16, 16)
    change = {'train_dataloader.dataset.pipeline.0.transforms.0.0.scale': 24}
    assert load_config('configs/digits/r18_1xb64-16e_digits.py', change).input_size == (24, 24)
