"""mmdet's own inferencer and its visualisation with each of our detection configs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from us3l_mm.config import load_config

DIGITS = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
CONFIGS = [*sorted(Path('configs/det').glob('*.py')), *sorted(Path('configs/digits').glob('*retinanet*.py'))]

pytestmark = [
    pytest.mark.usefixtures('parse_once'),
    pytest.mark.filterwarnings('ignore:(Checkpoint is not loaded|weights is None|palette does not exist):UserWarning'),
]


class PartsOfAnInferencer(DetInferencer):
    """Pipeline, names of classes and visualizer, without the detector."""

    def _init_model(self, cfg, weights, device='cpu'):
        model = nn.Module()
        self._load_weights_to_model(model, None, cfg)
        return model


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_has_what_drawing_needs(path):
    inferencer = PartsOfAnInferencer(Config.fromfile(str(path)), device='cpu', show_progress=False)
    image = np.full((40, 60, 3), 128, np.uint8)
    packed = inferencer.pipeline(image)
    assert packed['inputs'].shape[0] == 3 and packed['data_samples'].ori_shape == (40, 60)
    assert isinstance(inferencer.visualizer, DetLocalVisualizer)
    boxes = torch.tensor([[5.0, 5.0, 30.0, 30.0]])
    found = InstanceData(bboxes=boxes, scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long))
    sample = DetDataSample(pred_instances=found)
    inferencer.visualizer.add_datasample('x', image, sample, draw_gt=False, pred_score_thr=0.3)
    assert (inferencer.visualizer.get_image() != 128).any()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_mmdets_test_script_finds_the_hook_that_draws(path):
    """It stops at a config without one."""
    cfg = Config.fromfile(str(path))
    args = type('Arguments', (), dict(show=False, show_dir='x', wait_time=0))
    assert trigger_visualization_hook(cfg, args).default_hooks.visualization.test_out_dir == 'x'


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, dict(norm_cfg=dict(type='SyncBN'))], ids=['as it is', 'SyncBN'])
def test_inferencer_draws_what_the_detector_finds_by_the_pixels_of_training(tmp_path, digit_scenes, options):
    cfg = load_config(DIGITS, {'model.test_cfg.score_thr': 0, 'model.backbone.init_cfg': None})
    cfg.model.backbone.update(options)
    init_default_scope('mmdet')
    detector = MODELS.build(cfg.model)
    for name, tensor in detector.state_dict().items():
        if 'running_' in name:
            tensor.uniform_(0.5, 1.5)
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(dict(state_dict=detector.state_dict(), meta=meta), tmp_path / 'det.pth')
    raw = Config.fromfile(DIGITS)  # as a user of mmdet reads it
    raw.model.backbone.update(init_cfg=None, **options)
    raw.model.test_cfg.score_thr = 0
    inferencer = DetInferencer(raw, str(tmp_path / 'det.pth'), device='cpu', show_progress=False)
    image = sorted((digit_scenes / 'val').iterdir())[0]
    found = inferencer(str(image), out_dir=str(tmp_path), pred_score_thr=0, return_datasamples=True)
    assert (tmp_path / 'vis' / image.name).is_file()
    data = inferencer.pipeline(str(image))
    expected = detector.eval().test_step({name: [part] for name, part in data.items()})[0].pred_instances
    (got,) = found['predictions']
    torch.testing.assert_close(got.pred_instances.scores, expected.scores)
    torch.testing.assert_close(got.pred_instances.bboxes, expected.bboxes)
