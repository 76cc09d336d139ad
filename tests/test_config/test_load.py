"""What load_config refuses before anything is built."""

import pytest
from mmengine.config import Config

from builders import ROOT
from us3l_mm.config import load_config
from us3l_mm.config.load import read_config

pytestmark = pytest.mark.usefixtures('parse_once')

ALL_WIDTHS = 'configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py'
DETECTOR = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'
SNET = 'configs/digits/snet_r18_1xb64-2e_digits.py'
VIT = 'configs/digits/vit-tiny_1xb64-2e_digits.py'
NORM = 'us3l_mm.SlimmableBatchNorm2d'


@pytest.mark.parametrize('implementation', ['torch', 'mmcv'])
@pytest.mark.parametrize('path', [ALL_WIDTHS, PRETRAIN, SNET])
def test_sync_bn_does_not_replace_slimmable_norms(path, implementation):
    with pytest.raises(ValueError, match=r"sync_bn='\w+' would replace .*norm_cfg=dict\(type='us3l_mm.*sync=True"):
        load_config(path, dict(sync_bn=implementation))


@pytest.mark.parametrize('path', [DETECTOR, VIT])  # plain norms, and a backbone without any
def test_sync_bn_replaces_plain_norms(path):
    assert load_config(path, dict(sync_bn='torch')).sync_bn == 'torch'


def test_sync_bn_is_refused_wherever_a_norm_is_slimmable(tmp_path):
    stock = dict(type='mmpretrain.ResNet', depth=18, norm_cfg=dict(type=NORM))
    Config(dict(model=dict(type='BYOL', backbone=stock), sync_bn='torch')).dump(tmp_path / 'stock.py')
    for path, options in (
        (str(tmp_path / 'stock.py'), {}),
        (DETECTOR, {'sync_bn': 'torch', 'model.neck.norm_cfg': dict(type=NORM)}),
    ):
        with pytest.raises(ValueError, match='would replace slimmable batch norms'):
            load_config(path, options)


def test_read_config_sets_classes_and_folder_and_leaves_the_width():
    path = 'configs/det/faster-rcnn_r50_fpn_voc-custom.py'
    cfg = read_config(path, dict(classes=['cat', 'dog'], data_root='/there'))
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.test_dataloader.dataset.data_root == '/there'
    assert cfg.model.backbone == Config.fromfile(path).model.backbone


PIXELS = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)


@pytest.mark.parametrize('own', [None, {}, dict(type='P'), dict(type='P', mean=[7.0] * 3), dict(to_rgb=False, size=2)])
@pytest.mark.parametrize('shared', [None, {}, PIXELS])
def test_shared_pixels_go_into_the_model_whose_own_entries_win(shared, own, tmp_path):
    cfg = dict(model=dict(type='X') if own is None else dict(type='X', data_preprocessor=own))
    Config(cfg if shared is None else cfg | dict(data_preprocessor=shared)).dump(tmp_path / 'x.py')
    model = read_config(str(tmp_path / 'x.py')).model.to_dict()
    expected = {}
    for entries in (shared or {}, own or {}):
        for name, value in entries.items():
            expected[name] = value
    assert model.get('data_preprocessor', {}) == expected
    assert ('data_preprocessor' in model) == (shared is not None or own is not None)


def test_pixels_of_the_command_line_reach_the_model(tmp_path):
    Config(dict(model=dict(data_preprocessor=dict(type='P')), data_preprocessor=PIXELS)).dump(tmp_path / 'x.py')
    options = {'data_preprocessor.std': [9.0] * 3, 'model.data_preprocessor.mean': [8.0] * 3}
    pixels = read_config(str(tmp_path / 'x.py'), options).model.data_preprocessor
    assert pixels == dict(type='P', mean=[8.0] * 3, std=[9.0] * 3, to_rgb=True)


def test_config_without_a_model_is_read(tmp_path):
    Config(dict(data_preprocessor=PIXELS)).dump(tmp_path / 'x.py')
    assert 'model' not in read_config(str(tmp_path / 'x.py'))


@pytest.mark.parametrize(
    ('typed', 'meant'),
    [
        ('configs/det/retinanet_r18_fpn_1x_cocco.py', 'configs/det/retinanet_r18_fpn_1x_coco.py'),
        ('configs/det/r18_4xb128.py', 'configs/us3l/r18_4xb128.py'),
        ('us3l/r18_4xb128.py', 'configs/us3l/r18_4xb128.py'),
        ('config/us3l/R18_4xb128', 'configs/us3l/r18_4xb128.py'),
    ],
)
def test_mistyped_config_suggests_the_nearest_file(typed, meant, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(FileNotFoundError, match=f'no config file {typed}; did you mean {meant}'):
        read_config(typed)


def test_mistyped_config_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').touch()
    for typed, hint in (
        (f'{tmp_path}/mime.py', f'did you mean {tmp_path}/mine.py'),
        ('xyz.py', 'paths start from the working directory'),
        ('digits/r18_1xb64-16e_digits.py', r'did you mean us3l_mm::digits/r18_1xb64-16e_digits\.py\?$'),
        ('configs/us3l/r50_8xb265.py', r'did you mean us3l_mm::us3l/r50_8xb256\.py\?$'),
        ('us3l_mm::digits/xyz.py', 'us3l_mm::digits/xyz.py; `us3l configs` lists ours'),
    ):
        with pytest.raises(FileNotFoundError, match=hint):
            read_config(typed)
