"""Folder and classes of a config in one place: all that depends on them follows."""

import os.path as osp

import pytest
from mmengine.config import Config

from builders import ROOT
from us3l_mm.config import load_config, read_config
from us3l_mm.config.set_data import move_data, set_classes

pytestmark = pytest.mark.usefixtures('parse_once')

CUSTOM = 'configs/det/faster-rcnn_r50_fpn_voc-custom.py'
COCO = 'configs/det/mask-rcnn_r50_fpn_1x_coco.py'
VOC = 'configs/det/faster-rcnn_r50_c4_24k_voc0712.py'
PRETRAIN = 'configs/us3l/r18_4xb128.py'  # without a top-level data_root
IN_MEMORY = 'configs/us3l/r18_1xb512-400e-fast_cifar100.py'
SPLITS = ('train', 'val', 'test')


def datasets(cfg):
    for split in SPLITS:
        dataset = cfg[f'{split}_dataloader'].dataset
        yield from dataset.get('datasets', [dataset])


@pytest.mark.parametrize('path', [CUSTOM, COCO, VOC])
def test_folder_reaches_every_data_set(path):
    found = list(datasets(load_config(path, dict(data_root='/there', classes=['cat', 'dog']))))
    assert len(found) >= 3
    assert [dataset.data_root for dataset in found] == ['/there'] * len(found)


def test_evaluators_read_from_the_same_folder():
    cfg = load_config(COCO, dict(data_root='data/coco/part'))  # below the old one: not to be moved twice
    for split in ('val', 'test'):
        assert cfg[f'{split}_evaluator'].ann_file == 'data/coco/part/annotations/instances_val2017.json'


@pytest.mark.parametrize('path', [CUSTOM, COCO, VOC])
@pytest.mark.parametrize('classes', [['cat', 'dog'], ('x', 7, 'z'), 'person'])
def test_classes_reach_data_sets_and_heads(path, classes):
    names = ('person',) if classes == 'person' else tuple(map(str, classes))
    cfg = load_config(path, dict(classes=classes), width=0.5)
    assert {dataset.metainfo.classes for dataset in datasets(cfg)} == {names}
    roi_head = cfg.model.roi_head
    heads = [roi_head.bbox_head, roi_head.get('mask_head') or roi_head.bbox_head]
    assert {head.num_classes for head in heads} == {len(names)}


def test_what_a_run_has_dumped_is_read_again(tmp_path):
    cfg = load_config(CUSTOM, dict(data_root='/there', classes=['cat', 'dog']), work_dir='x', width=0.5)
    cfg.dump(tmp_path / 'dumped.py')
    assert load_config(str(tmp_path / 'dumped.py')).to_dict() == cfg.to_dict()


def test_without_options_nothing_changes():
    assert load_config(VOC, work_dir='x').train_dataloader.to_dict() == Config.fromfile(VOC).train_dataloader.to_dict()


def test_names_of_several_words_come_from_a_file(tmp_path):
    (tmp_path / 'classes.txt').write_bytes('traffic light\r\n\r\n 007 \r\n'.encode('utf-8-sig'))
    cfg = load_config(CUSTOM, dict(classes=f'{tmp_path}/classes.txt'))
    assert cfg.train_dataloader.dataset.metainfo.classes == cfg.classes == ('traffic light', '007')


def test_classes_reach_every_stage_of_a_cascade(tmp_path):
    (tmp_path / 'own.py').write_text(
        "_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'\nclasses = 'xy'\n"
    )
    heads = read_config(str(tmp_path / 'own.py'), dict(classes=['x', 'y'])).model.roi_head
    assert [head.num_classes for head in (*heads.bbox_head, heads.mask_head)] == [2] * 4


def own_config(folder, base, text):
    path = folder / 'own.py'
    path.write_text(f'_base_ = {str(ROOT / base)!r}\n{text}\n')
    return str(path)


@pytest.mark.parametrize(
    ('path', 'depth'), [(CUSTOM, 1), (CUSTOM, 2), (COCO, 1), (COCO, 2), (VOC, 1), (PRETRAIN, 1), (IN_MEMORY, 1)]
)
def test_entries_of_an_own_file_mean_the_same_as_on_the_command_line(path, depth, tmp_path):
    options = (
        dict(data_root='/there') if path in (PRETRAIN, IN_MEMORY) else dict(data_root='/there', classes=['a', 'b'])
    )
    own = own_config(tmp_path, path, '\n'.join(f'{key} = {value!r}' for key, value in options.items()))
    if depth == 2:
        (tmp_path / 'child.py').write_text("_base_ = './own.py'\nseed = 3\n")
        own = str(tmp_path / 'child.py')
    found, expected = read_config(own).to_dict(), read_config(path, options).to_dict()
    found.pop('seed', None)
    assert found == expected and '/there' in str(expected['train_dataloader'])
    options['data_root'] = '/elsewhere'  # and the option goes on to work
    found = read_config(own, options).to_dict()
    found.pop('seed', None)
    assert found == read_config(path, options).to_dict()


OWN_SETS = """
data_root = '/own/'
train_dataloader = dict(dataset=dict(data_root=data_root, ann_file='train.json', data_prefix=dict(img='images/')))
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file='val.json', data_prefix=dict(img='images/')))
test_dataloader = val_dataloader
"""


@pytest.mark.parametrize(
    'written', [OWN_SETS, OWN_SETS.replace('data_root = ', 'folder = ').replace('=data_root', '=folder')]
)
def test_evaluators_follow_data_sets_that_a_file_sets_one_by_one(written, tmp_path):
    own = own_config(tmp_path, COCO, written)
    for options, root in ((None, '/own'), (dict(data_root='/elsewhere'), '/elsewhere')):
        cfg = read_config(own, options)
        assert osp.normpath(cfg.train_dataloader.dataset.data_root) == root
        assert {cfg[f'{split}_evaluator'].ann_file for split in ('val', 'test')} == {f'{root}/val.json'}


def test_annotations_on_purpose_of_other_kinds_of_sets_stay(tmp_path):
    own = own_config(
        tmp_path, COCO, "val_dataloader = dict(dataset=dict(type='CocoPanopticDataset', ann_file='p.json'))"
    )
    assert read_config(own).val_evaluator.ann_file == 'data/coco/annotations/instances_val2017.json'


def test_a_file_with_sets_in_several_folders_is_left_alone(tmp_path):
    own = own_config(tmp_path, COCO, "data_root = '/own/'\ntrain_dataloader = dict(dataset=dict(data_root='/own/'))")
    cfg = read_config(own)
    assert cfg.val_dataloader.dataset.data_root == 'data/coco/'
    assert cfg.val_evaluator.ann_file == 'data/coco/annotations/instances_val2017.json'


@pytest.mark.parametrize('classes', [None, [], ['cat', 'cat'], ['cat', ' cat '], ' '])
def test_classes_that_are_none(classes):
    with pytest.raises(ValueError, match='one or more different names, got .*classes=cat,dog'):
        load_config(CUSTOM, dict(classes=classes))


def test_what_has_no_effect_is_an_error():
    loaders = {
        f'{split}_dataloader': dict(dataset=dict(data_root=f'data/{split}', pipeline=[])) for split in ('train', 'val')
    }
    with pytest.raises(
        ValueError, match='data_root=/there has no single folder to replace, got data/train, data/val; set'
    ):
        move_data(Config(loaders), 'data/coco/', '/there')
    with pytest.raises(ValueError, match='no data set with a pipeline'):
        set_classes(Config(dict(model=dict(type='X', head=dict(num_classes=3)))), ['cat'])
