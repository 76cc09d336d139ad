"""Folder and classes of a config in one place: all that depends on them follows."""

import pytest
from mmengine.config import Config

from us3l_mm.config import load_config
from us3l_mm.config.set_data import move_data, set_classes

pytestmark = pytest.mark.usefixtures('parse_once')

CUSTOM = 'configs/det/faster-rcnn_r50_fpn_voc-custom.py'
COCO = 'configs/det/mask-rcnn_r50_fpn_1x_coco.py'
VOC = 'configs/det/faster-rcnn_r50_c4_24k_voc0712.py'
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
    (tmp_path / 'classes.txt').write_text('traffic light\n\n007\n')
    cfg = load_config(CUSTOM, dict(classes=f'{tmp_path}/classes.txt'))
    assert cfg.train_dataloader.dataset.metainfo.classes == cfg.classes == ('traffic light', '007')


@pytest.mark.parametrize('classes', [None, [], ['cat', 'cat']])
def test_classes_that_are_none(classes):
    with pytest.raises(ValueError, match='one or more different names, got .*classes=cat,dog'):
        load_config(CUSTOM, dict(classes=classes))


def test_what_has_no_effect_is_an_error():
    with pytest.raises(ValueError, match='data_root=/there reaches no data set: .* lies in data/coco/'):
        move_data(Config(dict(train_dataloader=dict(dataset=dict(data_root='data/voc')))), 'data/coco/', '/there')
    with pytest.raises(ValueError, match='no data set with a pipeline'):
        set_classes(Config(dict(model=dict(type='X', head=dict(num_classes=3)))), ['cat'])
