"""A data set that is missing: what was looked for, where to get it, how it must lie."""

import re

import pytest

from us3l_mm.config import load_config, require_data

pytestmark = pytest.mark.usefixtures('parse_once', 'no_random_weights')
LOADERS = ['train_dataloader', 'val_dataloader', 'test_dataloader']


@pytest.mark.parametrize(
    ('path', 'texts'),
    [
        ('configs/us3l/r18_4xb128.py', ['no {} for ImageNet', 'image-net.org', 'train/CLASS/*.JPEG']),
        (
            'configs/linear/r18_1xb512-100e_cifar100.py',
            ['no {} for CIFAR100', 'train_dataloader.dataset.download=True', 'cifar-100-python/'],
        ),
        (
            'configs/us3l/r18_1xb512-400e-fast_cifar100.py',
            ['--cfg-options train_dataloader.dataset.dataset.download=True'],
        ),
        ('configs/linear/r50_1xb256-100e_cifar10.py', ['for CIFAR10', 'cifar-10-batches-py/']),
        ('configs/linear/r50_1xb256-100e_dtd.py', ['for DTD', 'vgg/data/dtd', 'imdb/imdb.mat']),
        ('configs/linear/r50_1xb256-100e_flowers102.py', ['for Flowers102', 'flowers/102', 'setid.mat']),
        ('configs/linear/r50_1xb256-100e_pets.py', ['for OxfordIIITPet', 'data/pets', 'annotations/trainval.txt']),
        (
            'configs/det/retinanet_r18_fpn_1x_coco.py',
            ['cocodataset.org', 'annotations/instances_{{train,val}}2017.json'],
        ),
        ('configs/det/faster-rcnn_r50_fpn_24k_voc0712.py', ['for VOCDataset', 'pascal/VOC', 'VOC2007/ and VOC2012/']),
        ('configs/det/faster-rcnn_r50_fpn_voc-custom.py', ['for CustomVOC', 'ImageSets/Main/{{train,val}}.txt']),
    ],
)
def test_missing_set_is_described(path, texts, tmp_path):
    root = tmp_path / 'there'
    options = dict(classes=['cat', 'dog']) if 'custom' in path else {}
    cfg = load_config(path, {'data_root': str(root), **options}, width=1.0 if '/det/' in path else None)
    with pytest.raises(FileNotFoundError, match='^train_dataloader.dataset.*--cfg-options data_root=FOLDER') as raised:
        require_data(cfg, LOADERS)
    for text in texts:
        assert text.format(root) in str(raised.value)


def test_what_is_there_is_not_asked_for(tmp_path):
    cfg = load_config('configs/linear/r18_1xb512-100e_cifar100.py', dict(data_root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=re.escape(f'no {tmp_path}/cifar-100-python for')):
        require_data(cfg, LOADERS)
    (tmp_path / 'cifar-100-python').mkdir()
    require_data(cfg, LOADERS)


def test_one_download_brings_all_splits(tmp_path):
    path, options = 'configs/linear/r18_1xb512-100e_cifar100.py', dict(data_root=str(tmp_path / 'there'))
    with pytest.raises(FileNotFoundError) as raised:
        require_data(load_config(path, options), LOADERS)
    option, value = re.search(r'--cfg-options (\S+)=(True)', str(raised.value)).groups()
    require_data(load_config(path, {**options, option: value == 'True'}), LOADERS)


def test_part_that_is_missing_is_named(tmp_path):
    for folder in ('train2017', 'annotations'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'annotations/instances_train2017.json').touch()
    cfg = load_config('configs/det/retinanet_r18_fpn_1x_coco.py', dict(data_root=str(tmp_path)), width=1.0)
    require_data(cfg, ['train_dataloader'])
    with pytest.raises(FileNotFoundError, match=r'^val_dataloader.dataset: no .*instances_val2017.json'):
        require_data(cfg, LOADERS)


def test_sets_that_need_no_files_or_lie_elsewhere_are_not_looked_for():
    require_data(load_config('configs/digits/r18_1xb64-16e_digits.py'), LOADERS)
    remote = {
        f'{split}_dataloader.dataset.backend_args': dict(backend='petrel', _delete_=True)
        for split in ('train', 'val', 'test')
    }
    cfg = load_config('configs/det/retinanet_r18_fpn_1x_coco.py', remote, width=1.0)
    require_data(cfg, LOADERS)
