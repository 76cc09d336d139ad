"""A small set in VOC's format trains and is tested out of the box, by the tools."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

CONFIG = 'configs/det/faster-rcnn_r50_fpn_voc-custom.py'


def logged(folder):
    found = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')) + sorted(folder.glob('*/*.json')):
        for line in path.read_text().splitlines():
            found.update(json.loads(line))
    return found


def test_trains_tests_and_draws(run_tool, tmp_path, voc_scenes, small_checkpoint, small_options):
    work_dir, drawn = tmp_path / 'run', tmp_path / 'drawn'
    weights = f'model.backbone.init_cfg.checkpoint={small_checkpoint}'
    run_tool('train', CONFIG, '--width', 0.5, '--work-dir', work_dir, '--cfg-options', *small_options, weights)
    cfg = Config.fromfile(work_dir / 'faster-rcnn_r50_fpn_voc-custom.py')
    assert cfg.model.neck.in_channels == [8, 16, 32, 64] and cfg.model.roi_head.bbox_head.num_classes == 10
    saved = CheckpointLoader.load_checkpoint(str(work_dir / 'epoch_1.pth'))
    assert saved['meta']['dataset_meta']['classes'] == tuple(f'digit {label}' for label in range(10))
    assert saved['state_dict']['roi_head.bbox_head.fc_cls.weight'].shape == (11, 16)
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'at width 0.5: 120 of 120 tensors loaded, 100 of them sliced; 0 missing, 0 unexpected' in log

    arguments = [CONFIG, work_dir / 'epoch_1.pth', '--width', 0.5, '--work-dir', tmp_path / 'test']
    run_tool('test', *arguments, '--show-dir', drawn, '--cfg-options', *small_options)
    tested, trained = logged(tmp_path / 'test'), logged(work_dir)
    assert tested['pascal_voc/mAP'] == trained['pascal_voc/mAP'] and 0 <= tested['pascal_voc/AP50'] <= 1
    names = [path.name for path in sorted(drawn.iterdir())]
    assert names == ['val_00001.jpg', 'val_00002.jpg']
    shown = cv2.imread(str(drawn / names[0]))
    plain = cv2.imread(str(voc_scenes / 'JPEGImages' / names[0]))
    assert shown.shape[0] == plain.shape[0] and shown.shape[1] == 2 * plain.shape[1]  # truth beside predictions
    assert np.abs(shown[:, : plain.shape[1]].astype(int) - plain).max() > 100  # drawn boxes


def test_misspelt_class_stops_the_training(run_tool, tmp_path, small_options):
    options = [*small_options, 'classes=digit,9', 'model.backbone.init_cfg=None']
    with pytest.raises(ValueError, match=r"unknown classes 'digit \d' \(\d objects\).*known are 'digit', '9'"):
        run_tool('train', CONFIG, '--width', 1, '--work-dir', tmp_path, '--cfg-options', *options)
