"""Detection configs: the protocol that their names say, and widths that reach all of a model."""

from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from us3l_mm.config import load_config
from us3l_mm.slim import slim_channels

CONFIGS = [path for path in sorted(Path('configs/det').glob('[mfr]*.py')) if 'digits' not in path.stem]
SCHEDULES = {
    '1x': (dict(max_epochs=12), [8, 11]),
    '2x': (dict(max_epochs=24), [16, 22]),
    '24k': (dict(max_iters=24000), [18000, 22000]),
}


@pytest.fixture(autouse=True)
def no_random_weights(monkeypatch):
    """Channels are asked for, values are not, and take seconds."""
    for draw in ('uniform_', 'normal_'):
        monkeypatch.setattr(torch.Tensor, draw, lambda tensor, *_, **__: tensor)


def ids(path):
    return path.stem


@cache
def load(path, **kwargs):
    return load_config(str(path), dict(classes=['cat']) if 'custom' in path.stem else None, **kwargs)


def test_all_detectors_are_there():
    names = {path.stem for path in CONFIGS}
    coco = ('mask-rcnn_r50_fpn', 'mask-rcnn_r50_c4', 'faster-rcnn_r50_fpn', 'retinanet_r18_fpn', 'retinanet_r50_fpn')
    assert names >= {f'{name}_{schedule}_coco' for name in coco for schedule in ('1x', '2x')}
    assert names >= {f'faster-rcnn_r50_{kind}_24k_voc0712' for kind in ('fpn', 'c4')}


@pytest.mark.parametrize('path', [path for path in CONFIGS if '_2x_' not in path.stem], ids=ids)
@pytest.mark.parametrize('width', [0.75, 0.3])
def test_width_reaches_all_that_reads_the_backbone(path, width):
    model = load(path, width=width).model
    assert model.backbone.width == width
    base = 256 if '_r50_' in path.stem else 64
    outputs = [slim_channels(base * 2**stage, width) for stage in range(4)]
    if '_c4_' not in path.stem:
        assert model.neck.in_channels == outputs
        return
    roi_head = model.roi_head
    assert model.rpn_head.in_channels == roi_head.bbox_roi_extractor.out_channels == outputs[2]
    assert roi_head.shared_head.width == width and roi_head.bbox_head.in_channels == outputs[3]
    assert 'mask_head' not in roi_head or roi_head.mask_head.in_channels == outputs[3]


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_schedule_is_that_of_the_name(path):
    cfg = load(path, width=0.3)
    key = next((key for key in SCHEDULES if f'_{key}_' in path.stem), '2x')
    length, milestones = SCHEDULES[key]
    assert {name: cfg.train_cfg[name] for name in length} == length
    assert cfg.param_scheduler[1].milestones == milestones
    assert cfg.param_scheduler[1].end == next(iter(length.values()))
    assert 'custom' in path.stem or cfg.train_dataloader.batch_size == 2


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_all_layers_train_with_synchronised_batch_norm(path):
    cfg = load(path, width=0.3)
    backbone, roi_head = cfg.model.backbone, cfg.model.get('roi_head', {})
    assert cfg.sync_bn == 'torch' and (backbone.frozen_stages, backbone.norm_eval) == (-1, False)
    if '_c4_' in path.stem:
        assert roi_head.shared_head.type == 'us3l_mm.SlimmableResLayer'
        assert roi_head.shared_head.init_cfg == backbone.init_cfg
    else:
        assert cfg.model.neck.norm_cfg.type == 'BN'
        heads = [roi_head[name] for name in ('bbox_head', 'mask_head') if name in roi_head]
        assert all(head.norm_cfg.type == 'BN' for head in heads)
    pixels = cfg.model.data_preprocessor  # those of the pretraining
    assert pixels.mean == [123.675, 116.28, 103.53] and pixels.bgr_to_rgb


def test_voc_has_all_of_its_images_and_metrics():
    cfg = load(Path('configs/det/faster-rcnn_r50_fpn_24k_voc0712.py'), width=0.3)
    lists = [dataset.ann_file for dataset in cfg.train_dataloader.dataset.datasets]
    assert lists == [f'{year}/ImageSets/Main/trainval.txt' for year in ('VOC2007', 'VOC2012')]
    assert cfg.test_dataloader.dataset.ann_file == 'VOC2007/ImageSets/Main/test.txt'
    assert cfg.test_evaluator.iou_thrs == pytest.approx([0.5 + 0.05 * i for i in range(10)])
    assert cfg.model.roi_head.bbox_head.num_classes == 20


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_docstring_has_the_command_of_this_config(path):
    text = path.read_text().split('"""')[1]
    assert str(path) in text and 'Result: ' in text
    assert len([line for line in path.read_text().splitlines() if line.strip()]) <= 40


def test_what_a_run_dumps_builds_the_same_model(tmp_path):
    cfg = load(Path('configs/det/mask-rcnn_r50_c4_1x_coco.py'), width=0.3)
    cfg.dump(tmp_path / 'dumped.py')
    assert load_config(str(tmp_path / 'dumped.py')).model == cfg.model
    assert Config.fromfile(tmp_path / 'dumped.py').model == cfg.model
