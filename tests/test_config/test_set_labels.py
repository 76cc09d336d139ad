"""Labels go by the names of classes: in folders of images over all splits, in COCO sets by the order of `classes`."""

import shutil

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.datasets import ImageNet
from PIL import Image

from us3l_mm.config import load_config, read_config

pytestmark = pytest.mark.usefixtures('parse_once', 'no_random_weights')

COLOURS = {'a_red': (220, 0, 0), 'b_green': (0, 220, 0), 'c_blue': (0, 0, 220)}
PROBE = 'configs/linear/r18_4xb512-60e_in1k.py'


def fill(root, split, names, count=2):
    for name in names:
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.full((8, 8, 3), COLOURS.get(name, (0, 0, 0)), np.uint8)
            Image.fromarray(pixels).save(folder / f'{number}.png')


@pytest.fixture
def told(monkeypatch):
    """Texts of warnings while a config is read or a data set is loaded."""
    found = []
    for place in ('us3l_mm.config.set_labels', 'us3l_mm.datasets.class_folders'):
        monkeypatch.setattr(f'{place}.print_log', lambda text, *_: found.append(text))
    return found


@pytest.fixture
def own(tmp_path):
    """Write a config of folders; returns its path."""

    def write(kind='CustomDataset', num_classes=3, **options):
        loaders = {
            f'{split}_dataloader': dict(
                dataset=dict(type=kind, data_root=str(tmp_path), data_prefix=split, pipeline=[], **options)
            )
            for split in ('train', 'val')
        }
        model = dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=num_classes))
        path = tmp_path / 'own.py'
        Config(dict(default_scope='mmpretrain', model=model, **loaders)).dump(path)
        return str(path)

    return write


def build(cfg, split):
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


def labels(data):
    """Labels of each folder."""
    found = {}
    for info in data:
        found.setdefault(info['img_path'].split('/')[-2], set()).add(info['gt_label'])
    return found


@pytest.mark.parametrize('kind', ['CustomDataset', 'mmpretrain.CustomDataset', 'ImageNet'])
@pytest.mark.parametrize('missing', COLOURS)
def test_labels_are_those_of_training_where_a_class_is_missing(tmp_path, own, told, kind, missing):
    fill(tmp_path, 'train', COLOURS)
    fill(tmp_path, 'val', [name for name in COLOURS if name != missing])
    cfg = read_config(own(kind))
    train, val = build(cfg, 'train'), build(cfg, 'val')
    assert labels(train) == {name: {label} for label, name in enumerate(sorted(COLOURS))}
    assert labels(val) == {name: label for name, label in labels(train).items() if name != missing}
    assert train.metainfo['classes'] == val.metainfo['classes'] == tuple(sorted(COLOURS))
    assert f'no image of 1 of the 3 classes: {missing}' in told[-1] and 'val' in told[-1]
    cfg.dump(tmp_path / 'dumped.py')
    assert read_config(str(tmp_path / 'dumped.py')).to_dict() == cfg.to_dict()


def test_an_empty_folder_is_a_missing_class(tmp_path, own, told):
    for split in ('train', 'val'):
        fill(tmp_path, split, COLOURS)
    for path in (tmp_path / 'val/b_green').iterdir():
        path.unlink()
    assert labels(build(read_config(own()), 'val')) == {'a_red': {0}, 'c_blue': {2}}
    assert 'no image of 1 of the 3 classes: b_green' in told[-1]


def test_class_that_training_lacks_is_an_error(tmp_path, own):
    fill(tmp_path, 'train', ['a_red', 'b_green'])
    fill(tmp_path, 'val', ['a_red', 'b_gren'])
    text = r"val has folders that are no class of the training split: 'b_gren' \(did you mean 'b_green'\?\); rename"
    with pytest.raises(ValueError, match=text):
        read_config(own())


def test_number_of_classes_is_that_of_the_set(tmp_path, own, told):
    fill(tmp_path, 'train', COLOURS)
    assert read_config(own(num_classes=1000)).model.head.num_classes == 3
    assert told == [f'num_classes=3 in the place of 1000: so many folders are in {tmp_path}/train']


@pytest.mark.parametrize('split', ['val', 'test'])
def test_top_k_of_a_probe_has_no_more_than_its_classes(tmp_path, told, split):
    for part in ('train', 'val'):
        fill(tmp_path, part, COLOURS)
    assert read_config(PROBE)[f'{split}_evaluator'].topk == (1, 5)
    cfg = read_config(PROBE, {'data_root': str(tmp_path)})
    assert cfg.model.head.num_classes == 3 and cfg[f'{split}_evaluator'].topk == (1,)
    assert 'topk=(1,) in the place of (1, 5): there are 3 classes' in told


@pytest.mark.parametrize(('given', 'kept'), [((1, 3, 4, 5), (1, 3)), ((5, 10), (1,)), (5, (1,)), (3, 3), ([2], [2])])
def test_top_k_of_any_classifier_and_evaluator_follows_the_head(tmp_path, own, told, given, kept):
    path = own(with_label=False)
    change = {
        'model.head.topk': given,
        'val_evaluator': [dict(type='mmpretrain.evaluation.Accuracy', topk=given), dict(type='SingleLabelMetric')],
    }
    cfg = read_config(path, change)
    assert cfg.model.head.topk == cfg.val_evaluator[0].topk == kept and len(told) == 2 * (kept != given)


def test_top_k_of_other_things_stays():
    change = {'model.bbox_head.topk': 900, 'val_evaluator.topk': (1, 900)}
    cfg = read_config('configs/det/retinanet_r18_fpn_1x_coco.py', change)
    assert cfg.model.bbox_head.topk == 900 and cfg.val_evaluator.topk == (1, 900)


def test_classes_name_folders_in_the_order_given(tmp_path, own):
    for split in ('train', 'val'):
        fill(tmp_path, split, COLOURS)
    order = ['c_blue', 'a_red', 'b_green']
    for cfg in (read_config(own(), dict(classes=order)), read_config(own(metainfo=dict(classes=order)))):
        for split in ('train', 'val'):
            assert labels(build(cfg, split)) == {name: {label} for label, name in enumerate(order)}
    with pytest.raises(ValueError, match=r"no folder of the classes 'a_rad' \(did you mean 'a_red'\?\)"):
        read_config(own(), dict(classes=['c_blue', 'a_rad', 'b_green']))
    with pytest.raises(ValueError, match="the config names 2 classes, .*train has 3 folders; they differ in 'b_green'"):
        read_config(own(), dict(classes=['c_blue', 'a_red']))


def test_names_to_show_stand_for_the_sorted_folders(tmp_path, own, told):
    fill(tmp_path, 'train', COLOURS)
    fill(tmp_path, 'val', ['c_blue'])
    val = build(read_config(own(metainfo=dict(classes=['Red', 'Green', 'Blue']))), 'val')
    assert val.metainfo['classes'] == ('Red', 'Green', 'Blue') and labels(val) == {'c_blue': {2}}


def test_sets_without_folders_for_classes_stay_as_they_are(tmp_path, own, told):
    fill(tmp_path, 'train', COLOURS)
    (tmp_path / 'list.txt').write_text('a_red/0.png 4\n')
    for options in (dict(with_label=False), dict(ann_file='list.txt')):
        path = own(num_classes=5, **options)
        assert read_config(path).to_dict() == Config.fromfile(path).to_dict() and not told


def test_missing_training_folder_is_told(tmp_path, own, told):
    fill(tmp_path, 'val', COLOURS)
    cfg = read_config(own())
    assert cfg.val_dataloader.dataset.type == 'CustomDataset'
    assert told == [f'no folder {tmp_path}/train: labels of {tmp_path}/val are right only if it has all classes']


def test_part_of_imagenet_is_probed_with_its_own_number_of_classes(tmp_path, told):
    for split in ('train', 'val'):
        fill(tmp_path, split, ['n02', 'n01'])
    cfg = load_config(PROBE, dict(data_root=str(tmp_path)))
    assert cfg.model.head.num_classes == 2
    cfg.val_dataloader.dataset.pipeline = []
    assert labels(build(cfg, 'val')) == {'n01': {0}, 'n02': {1}}
    shutil.rmtree(tmp_path / 'val')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text('x.png 999\n')
    with pytest.raises(ValueError, match=r'meta/val.txt has the labels of 1000 classes, .*train has 2 folders'):
        load_config(PROBE, dict(data_root=str(tmp_path)))


def test_whole_imagenet_stays_as_it_is(tmp_path):
    for split in ('train', 'val'):
        for number in range(1000):
            (tmp_path / split / f'n{number:04}').mkdir(parents=True)
    cfg = read_config(PROBE, dict(data_root=str(tmp_path)))
    assert [cfg[f'{split}_dataloader'].dataset.type for split in ('train', 'val')] == ['ImageNet'] * 2
    (tmp_path / 'val/n0007').rmdir()
    dataset = read_config(PROBE, dict(data_root=str(tmp_path))).val_dataloader.dataset
    assert dataset.type == 'us3l_mm.ClassFolders' and dataset.folders[8] == 'n0008'
    assert dataset.metainfo.classes[8] == ImageNet.METAINFO['classes'][8]
    options = {'data_root': str(tmp_path), 'val_dataloader.dataset': dict(type='CustomDataset', data_prefix='val')}
    options['val_dataloader.dataset'] |= dict(data_root=str(tmp_path), pipeline=[], _delete_=True)
    assert read_config(PROBE, options).val_dataloader.dataset.metainfo == dataset.metainfo


def test_pretraining_takes_any_images_of_imagenet(tmp_path):
    fill(tmp_path, 'train', ['n01', 'n02'])
    Image.new('RGB', (8, 8)).save(tmp_path / 'train/flat.png')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('n01/0.png 0\n')  # labels are not asked for
    cfg = read_config('configs/us3l/r18_4xb128.py', dict(data_root=str(tmp_path)))
    cfg.train_dataloader.dataset.pipeline = []
    assert len(build(cfg, 'train')) == 5


COCO = 'configs/det/mask-rcnn_r50_fpn_1x_coco.py'


@pytest.mark.parametrize('spelling', ['CocoDataset', 'mmdet.CocoDataset', 'class'])
def test_coco_sets_of_any_spelling_are_checked_and_numbered_by_name(spelling):
    from mmdet.datasets import CocoDataset

    kind = CocoDataset if spelling == 'class' else spelling
    options = {f'{split}_dataloader.dataset.type': kind for split in ('train', 'val', 'test')}
    for classes in ({}, dict(classes=['cat', 'dog'])):
        cfg = load_config(COCO, {**options, **classes}, width=1.0)
        assert cfg.train_dataloader.dataset.type == cfg.test_dataloader.dataset.type == 'us3l_mm.CustomCOCO'
        assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'us3l_mm.CustomCOCOMetric'
        cfg = read_config(COCO, {**options, **classes})  # what is exported runs in mmdet alone, if that can number it
        assert (cfg.val_dataloader.dataset.type == kind) == (cfg.val_evaluator.type == 'CocoMetric') == (not classes)


def test_other_kinds_of_sets_and_evaluators_stay():
    options = {'val_dataloader.dataset.type': 'CocoPanopticDataset', 'val_evaluator.type': 'CocoPanopticMetric'}
    cfg = load_config(COCO, options, width=1.0)
    assert (cfg.val_dataloader.dataset.type, cfg.val_evaluator.type) == ('CocoPanopticDataset', 'CocoPanopticMetric')
