"""Data of one's own: what a config becomes for a folder, against the folder itself and schedules as they run."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from PIL import Image

from builders import ROOT
from us3l_mm.config import OwnData, load_config, read_config
from us3l_mm.registry import DATASETS

PRETRAINING, PROBE = 'configs/us3l/r18_4xb128.py', 'configs/linear/r18_4xb512-60e_in1k.py'
DETECTOR = 'configs/det/retinanet_r18_fpn_1x_coco.py'
pytestmark = pytest.mark.usefixtures('parse_once')


def save(path, size=(40, 30), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)


def built(cfg, loader):
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg[loader].dataset)


@pytest.fixture
def photos(tmp_path):
    """Five images in a folder whose name has a space, and files that are none."""
    folder = tmp_path / 'my photos'
    for index, name in enumerate(['a.jpg', 'b.PNG', 'sub/c.webp', 'sub/deep/d.gif', 'sub/deep/e.tiff']):
        save(folder / name, (40 + index, 30))
    (folder / 'notes.txt').write_text('no image')
    return folder


@pytest.fixture
def labelled(tmp_path):
    """Folders of classes: 10 images of each of three."""
    folder = tmp_path / 'classes'
    for label, name in enumerate(['rust', 'leaf', 'sky']):
        for index in range(10):
            save(folder / name / f'{name}{index}.png', value=10 * label)
    return folder


def test_pretraining_takes_every_image_at_the_size_asked_for(photos):
    cfg = load_config(PRETRAINING, own=OwnData(data_root=str(photos), image_size=32))
    data = built(cfg, 'train_dataloader')
    assert len(data) == 5 and cfg.data_root == str(photos)
    assert [tuple(view.shape) for view in data[4]['inputs']] == [(3, 32, 32)] * 2
    assert cfg.train_dataloader.batch_size == 4  # of 128 there would be none


def test_pretraining_takes_the_folder_train_alone(photos):
    save(photos / 'train' / 'x.jpg')
    assert len(built(load_config(PRETRAINING, own=OwnData(data_root=str(photos))), 'train_dataloader')) == 1


def test_pretraining_is_watched(photos):
    monitor = load_config(PRETRAINING, own=OwnData(data_root=str(photos))).custom_hooks[-1]
    assert monitor.type == 'us3l_mm.MonitorHook' and monitor.dataset is None


def test_pretraining_is_watched_with_labels_of_the_tests(labelled, tmp_path):
    shutil.move(labelled, tmp_path / 'set' / 'val')
    save(tmp_path / 'set' / 'train' / 'x.jpg')
    own = OwnData(data_root=str(tmp_path / 'set'), image_size=28)
    cfg = load_config(PRETRAINING, dict(custom_hooks=[dict(type='us3l_mm.MonitorHook', interval=3)]), own=own)
    (monitor,) = cfg.custom_hooks
    assert monitor.interval == 3
    init_default_scope(cfg.default_scope)
    data = DATASETS.build(monitor.dataset)
    assert len(data) == 30 and tuple(data[0]['inputs'].shape) == (3, 28, 28)
    assert {int(data[index]['data_samples'].gt_label) for index in range(30)} == {0, 1, 2}


@pytest.mark.parametrize(
    'config, own, error',
    [
        (PRETRAINING, dict(data_root='nowhere'), 'nowhere is no folder here'),
        (PRETRAINING, dict(data_root='us3l_mm'), 'no image in us3l_mm or below'),
        (PRETRAINING, dict(data_root='tests', val_fraction=0.2), 'this config needs none'),
        (PRETRAINING, dict(val_fraction=0.2), '--val-fraction needs --data-root'),
        ('configs/us3l/r18_1xb512-400e-fast_cifar100.py', dict(data_root='PHOTOS'), 'a pipeline that brings images to'),
        (PROBE, dict(data_root='us3l_mm'), "needs folders train and val.*it has .*'datasets'.*--val-fraction 0.2"),
        (DETECTOR, dict(data_root='us3l_mm'), 'is no detection set: it has none of train.json'),
        ('configs/det/faster-rcnn_r50_fpn_24k_voc0712.py', dict(epochs=3), 'is counted in iterations'),
    ],
)
def test_what_cannot_be_is_refused(config, own, error, photos):
    if own.get('data_root') == 'PHOTOS':
        own = {**own, 'data_root': str(photos)}
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        load_config(config, own=OwnData(**own))


def names(data):
    return {data.get_data_info(index)['img_path'].split('/')[-1] for index in range(len(data))}


def test_a_share_of_each_class_is_left_for_tests(labelled):
    cfg = load_config(PROBE, own=OwnData(data_root=str(labelled), val_fraction=0.3))
    splits = [built(cfg, f'{split}_dataloader') for split in ('train', 'val')]
    for data, count in zip(splits, (7, 3)):
        counts = np.bincount([data.get_data_info(index)['gt_label'] for index in range(len(data))])
        assert counts.tolist() == [count] * 3
        assert data.metainfo['classes'] == ('leaf', 'rust', 'sky')
    train, val = map(names, splits)
    assert not train & val and len(train | val) == 30
    assert cfg.model.head.num_classes == 3

    for name in ('rust', 'leaf', 'sky'):  # what is in the tests stays there when images are added
        for index in range(10, 14):
            save(labelled / name / f'{name}{index}.png')
    cfg = load_config(PROBE, own=OwnData(data_root=str(labelled), val_fraction=0.3))
    assert len(val & names(built(cfg, 'val_dataloader'))) >= 0.7 * len(val)


def test_share_that_leaves_nothing_is_refused(labelled):
    cfg = load_config(PROBE, own=OwnData(data_root=str(labelled), val_fraction=0.04))
    with pytest.raises(ValueError, match='val_fraction=0.04 of the 10 images'):
        built(cfg, 'val_dataloader')


def test_folders_of_splits(labelled, tmp_path):
    for split in ('train', 'test'):
        shutil.copytree(labelled, tmp_path / 'sets' / split)
    shutil.rmtree(tmp_path / 'sets' / 'test' / 'leaf')
    cfg = load_config(PROBE, own=OwnData(data_root=str(tmp_path / 'sets'), image_size=32))
    train, val = (built(cfg, f'{split}_dataloader') for split in ('train', 'val'))
    assert (len(train), len(val)) == (30, 20)
    assert {val.get_data_info(index)['gt_label'] for index in range(20)} == {1, 2}  # leaf keeps 0
    assert tuple(val[0]['inputs'].shape) == (3, 32, 32) and cfg.input_size == (32, 32)
    with pytest.raises(ValueError, match='has train and test already'):
        load_config(PROBE, own=OwnData(data_root=str(tmp_path / 'sets'), val_fraction=0.2))


def test_sizes_of_types_in_any_spelling_follow(tmp_path):
    """Types by their paths, and one that is derived from RandomResizedCrop."""
    path = tmp_path / 'spelt.py'
    path.write_text(f"""
_base_ = '{ROOT}/{PROBE}'
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='us3l_mm.LoadImageFromFile'),
    dict(type='mmpretrain.EfficientNetRandomCrop', scale=224),
    dict(type='PackInputs'),
]))
val_dataloader = dict(dataset=dict(pipeline=[
    dict(type='us3l_mm.LoadImageFromFile'),
    dict(type='mmdet.datasets.transforms.Resize', scale=(448, 448)),
    dict(type='mmcv.transforms.CenterCrop', crop_size=(224, 224)),
    dict(type='PackInputs'),
]))
""")
    cfg = load_config(str(path), own=OwnData(image_size=32))
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 32
    _, resize, crop, _ = cfg.val_dataloader.dataset.pipeline
    assert resize.scale == (64, 64) and crop.crop_size == (32, 32)


def test_transformers_and_view_makers_follow_the_size():
    cfg = load_config('configs/us3l/vit-small_4xb128-300e_cifar10.py', own=OwnData(image_size=96))
    assert cfg.model.backbone.img_size == 96
    with pytest.raises(ValueError, match='RandomResizedCrop of one size'):
        load_config('configs/digits/supervised_r18_1xb64-2e_digits.py', own=OwnData(image_size=96))


def rates(cfg, epochs):
    """Learning rates at the start of each epoch, and at the end, by the schedulers themselves."""
    steps = 10
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedulers = []
    for part in cfg.param_scheduler:
        part = {key: value for key, value in part.items() if key not in ('_scope_', 'convert_to_iter_based')}
        kind = PARAM_SCHEDULERS.get(part.pop('type'))
        schedulers.append(kind.build_iter_from_epoch(optimizer, **part, epoch_length=steps))
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]['lr'])
        for _ in range(steps):
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
    return [*found, optimizer.param_groups[0]['lr']]


@pytest.mark.parametrize(
    'config, epochs',
    [
        (PRETRAINING, 50),
        ('configs/us3l/vit-small_4xb128-300e_cifar10.py', 150),  # with a warm-up
        ('configs/linear/r18_1xb512-100e_cifar100.py', 50),  # in steps
    ],
)
def test_schedules_keep_their_shape(config, epochs):
    before, after = load_config(config), load_config(config, own=OwnData(epochs=epochs))
    assert before.train_cfg.max_epochs == 2 * epochs and after.train_cfg.max_epochs == epochs
    expected = rates(before, 2 * epochs)[::2]
    assert np.allclose(rates(after, epochs), expected, rtol=0.02, atol=1e-3)
    assert len(set(np.round(expected, 6))) > 2


@pytest.mark.parametrize('epochs', [1, 2, 7])
def test_short_trainings_have_sound_schedules(epochs):
    cfg = load_config('configs/us3l/vit-small_4xb128-300e_cifar10.py', own=OwnData(epochs=epochs))
    assert len(rates(cfg, epochs)) == epochs + 1
    assert cfg.default_hooks.checkpoint.interval <= epochs


def test_batch_and_learning_rate(photos, capfd):
    cfg = load_config(PRETRAINING, own=OwnData(data_root=str(photos), batch_size=2))
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.enable and cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.default_hooks.logger.interval == 1
    assert 'are few for a recipe of 512' in capfd.readouterr().out  # of 2 images
    load_config(PRETRAINING, own=OwnData(data_root=str(photos), batch_size=64))
    assert 'are few for' not in capfd.readouterr().out
    before = load_config(PRETRAINING)
    for size in (256, 512):  # of 512 in the recipe
        load_config(PRETRAINING, own=OwnData(batch_size=size))
        assert ('the learning rate is that of 512 images' in capfd.readouterr().out) == (size == 256)
    assert load_config(PRETRAINING, own=OwnData()).to_dict() == before.to_dict()


def box_set(root, layout):
    """The same 12 images in both formats; the box of image i has its corner at (i, 2 i) and is 9 x 8 pixels."""
    for split, first, count in (('train', 0, 8), ('val', 8, 4)):
        numbers = range(first, first + count)
        if layout == 'voc':
            for folder in ('Annotations', 'ImageSets/Main'):
                (root / folder).mkdir(parents=True, exist_ok=True)
            (root / 'ImageSets/Main' / f'{split}.txt').write_text('\n'.join(f'i{number}' for number in numbers))
        content = dict(images=[], annotations=[], categories=[dict(id=9, name='leaf'), dict(id=2, name='rust')])
        for number in numbers:
            name, kind = f'i{number}', ('rust', 'leaf')[number % 2]
            x, y = number, 2 * number
            if layout == 'voc':
                save(root / 'JPEGImages' / f'{name}.png', (90, 60))
                corners = f'<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 10}</xmax><ymax>{y + 9}</ymax>'
                (root / 'Annotations' / f'{name}.xml').write_text(
                    '<annotation><size><width>90</width><height>60</height></size><object>'
                    f'<name>{kind}</name><bndbox>{corners}</bndbox></object></annotation>'
                )
                continue
            save(root / {'coco': 'images', 'coco2017': f'{split}2017'}[layout] / f'{name}.png', (90, 60))
            content['images'].append(dict(id=number, file_name=f'{name}.png', width=90, height=60))
            content['annotations'].append(
                dict(id=number, image_id=number, category_id={'rust': 2, 'leaf': 9}[kind], bbox=[x, y, 9, 8], area=72)
            )
        if layout == 'coco':
            (root / f'{split}.json').write_text(json.dumps(content))
        elif layout == 'coco2017':
            (root / 'annotations').mkdir(exist_ok=True)
            (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))
    return root


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['voc', 'coco', 'coco2017'])
@pytest.mark.parametrize('config', [DETECTOR, 'configs/det/faster-rcnn_r50_fpn_voc-custom.py'])
def test_detectors_take_either_format(config, layout, tmp_path):
    root = box_set(tmp_path / 'my boxes', layout)
    first = load_config(config, own=OwnData(data_root=str(root), epochs=2), work_dir=str(tmp_path / 'work'))
    first.dump(tmp_path / 'dumped.py')
    for cfg in (first, load_config(str(tmp_path / 'dumped.py'))):  # later steps start from what the run dumped
        for split, numbers in (('train', range(8)), ('val', range(8, 12)), ('test', range(8, 12))):
            data = built(cfg, f'{split}_dataloader')
            classes = data.metainfo['classes']
            assert sorted(classes) == ['leaf', 'rust']
            assert classes == (('leaf', 'rust') if layout == 'voc' else ('rust', 'leaf'))
            boxes = {}
            for index in range(len(data)):
                info = data.get_data_info(index)
                (box,) = info['instances']
                number = int(info['img_path'].split('/i')[-1].split('.')[0])
                boxes[number] = [*np.round(box['bbox']).tolist(), classes[box['bbox_label']]]
            expected = {n: [n, 2 * n, n + 9, 2 * n + 8, ('rust', 'leaf')[n % 2]] for n in numbers}
            assert boxes == expected
        packed = built(cfg, 'test_dataloader')[0]
        assert tuple(packed['inputs'].shape[-2:]) == (100, 150)  # 5/3 of 60 x 90
        warmup = cfg.param_scheduler[0]
        assert warmup.end <= max(1, math.ceil(8 / cfg.train_dataloader.batch_size) * 2 // 10)
        heads = cfg.model.get('bbox_head') or cfg.model.roi_head.bbox_head
        assert heads.num_classes == 2
        evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
        assert [part.get('ann_file') for part in evaluators] == [
            {'voc': None, 'coco': f'{root}/val.json', 'coco2017': f'{root}/annotations/instances_val2017.json'}[layout]
        ]


def test_classes_and_size_of_a_detector_can_be_given(tmp_path):
    root = box_set(tmp_path / 'boxes', 'coco')
    own = OwnData(data_root=str(root), image_size=30)
    cfg = load_config(DETECTOR, dict(classes=['leaf', 'rust']), own=own)
    data = built(cfg, 'test_dataloader')
    assert data.metainfo['classes'] == ('leaf', 'rust')
    assert tuple(data[0]['inputs'].shape[-2:]) == (30, 45)


def test_masks_need_coco(tmp_path):
    with pytest.raises(ValueError, match="VOC's format, which has no masks"):
        read_config('configs/det/mask-rcnn_r50_fpn_1x_coco.py', own=OwnData(data_root=str(box_set(tmp_path, 'voc'))))


def test_images_of_a_coco_file_must_be_found(tmp_path):
    root = box_set(tmp_path, 'coco')
    (root / 'images').rename(root / 'pictures')
    with pytest.raises(ValueError, match=r'the first image of .*train.json, i0.png, is in none of .*/images/train'):
        read_config(DETECTOR, own=OwnData(data_root=str(root)))


def test_iterations_per_device(monkeypatch, photos):
    monkeypatch.setenv('WORLD_SIZE', '2')
    cfg = load_config(PRETRAINING, own=OwnData(data_root=str(photos)))
    assert cfg.train_dataloader.batch_size == 2  # on each of two
