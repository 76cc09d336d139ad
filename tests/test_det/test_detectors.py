"""A backbone of fixed width inside mmdet's RetinaNet with FPN."""

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.registry import MODELS, DefaultScope

from us3l_mm.config import read_config, set_width
from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, calibrate_bn, use_width

pytestmark = pytest.mark.usefixtures('parse_once')

CONFIG = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
SMALL = dict(depth=18, stem_channels=16, base_channels=16)


@pytest.fixture(autouse=True)
def mmdet_scope():
    return DefaultScope.get_instance('test', scope_name='mmdet')


@pytest.fixture
def pretrained(tmp_path):
    """Slimmable net with calibrated widths, and the checkpoint of its pretraining."""
    net = SlimmableResNet_CIFAR(**SMALL, out_indices=(2, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    calibrate_bn(net, [1.0, 0.9, 0.5, 0.3], [torch.randn(4, 3, 32, 32) for _ in range(2)])
    state = {f'backbone.{key}': value for key, value in net.state_dict().items()}
    torch.save({'state_dict': {**state, 'neck.fc0.weight': torch.ones(2, 2)}}, tmp_path / 'pretrained.pth')
    return net.eval(), str(tmp_path / 'pretrained.pth')


def build(width, checkpoint=None):
    cfg = read_config(CONFIG)
    cfg.model.backbone.init_cfg.checkpoint = checkpoint
    if checkpoint is None:
        cfg.model.backbone.init_cfg = None
    detector = MODELS.build(set_width(cfg, width).model)
    detector.init_weights()
    return detector


@pytest.mark.parametrize('width', [1.0, 0.9, 0.5, 0.3])
def test_features_equal_the_slimmable_nets(pretrained, width):
    net, checkpoint = pretrained
    detector = build(width, checkpoint).eval()
    assert not any(isinstance(layer, (SlimmableConv2d, SlimmableBatchNorm2d)) for layer in detector.modules())
    images = torch.randn(2, 3, 40, 48)
    with torch.no_grad(), use_width(net, width):
        expected = net(images)
        got = detector.backbone(images)
    assert len(got) == len(expected) == 2
    for g, e in zip(got, expected):
        assert g.shape == e.shape
        torch.testing.assert_close(g, e, rtol=1e-6, atol=1e-6 * float(e.abs().max()))
        assert e.abs().max() > 1e-3  # zeros would be equal, too


def test_width_without_statistics_is_refused(pretrained):
    with pytest.raises(RuntimeError, match=r'no batch-norm statistics for width 0\.7'):
        build(0.7, pretrained[1])


def test_missing_checkpoint_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        build(0.5, str(tmp_path / 'none.pth'))


@pytest.mark.parametrize('width', [1.0, 0.9, 0.3])
def test_every_part_trains(width):
    detector = build(width).train()
    batch = demo_mm_inputs(2, [[3, 64, 64], [3, 64, 48]], num_classes=10, num_items=[2, 1])
    losses = detector(**detector.data_preprocessor(batch, True), mode='loss')
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert not [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    for name in ('conv1', 'layer4.0.downsample.0'):
        assert detector.backbone.get_parameter(f'{name}.weight').grad.any()


@pytest.mark.parametrize('width', [0.9, 0.3])
def test_predictions_are_boxes_inside_the_image(width):
    detector = build(width).eval()
    detector.test_cfg.score_thr = 0.0
    batch = demo_mm_inputs(2, [[3, 64, 64], [3, 64, 48]], num_classes=10, num_items=[2, 1])
    with torch.no_grad():
        results = detector(**detector.data_preprocessor(batch, False), mode='predict')
    for result, (height, width_px) in zip(results, [(64, 64), (64, 48)]):
        predicted = result.pred_instances
        assert 0 < len(predicted) <= detector.test_cfg.max_per_img
        assert (predicted.bboxes[:, 0::2].clamp(0, width_px) == predicted.bboxes[:, 0::2]).all()
        assert (predicted.bboxes[:, 1::2].clamp(0, height) == predicted.bboxes[:, 1::2]).all()
        assert predicted.labels.max() < 10


def test_neck_of_another_width_is_refused():
    cfg = read_config(CONFIG)
    cfg.model.backbone.width = 0.5
    with pytest.raises(ValueError, match=r'in_channels=\[64, 128\] does not match .*\[32, 64\]'):
        set_width(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('width', [1.0, 0.3])
def test_mask_rcnn_of_the_coco_config_trains_all_of_the_backbone(width):
    cfg = read_config('configs/det/mask-rcnn_r50_fpn_1x_coco.py')
    set_width(cfg, width)
    assert cfg.model.neck.in_channels == {1.0: [256, 512, 1024, 2048], 0.3: [80, 152, 304, 616]}[width]
    cfg.model.backbone.init_cfg = None
    detector = MODELS.build(cfg.model).train()
    assert all(parameter.requires_grad for parameter in detector.parameters())
    norms = [layer for layer in detector.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    assert all(type(norm) is torch.nn.BatchNorm2d and norm.training for norm in norms)  # what sync_bn converts
    assert cfg.sync_bn == 'torch'
    parts = {name.split('.')[0] for name, layer in detector.named_modules() if layer in norms}
    assert parts == {'backbone', 'neck', 'roi_head'}
