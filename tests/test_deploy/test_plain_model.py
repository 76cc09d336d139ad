"""Widths that a checkpoint is ready for."""

import pytest
import torch
from mmdet.models import BaseDetector, FasterRCNN, RetinaNet
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import LinearClsHead

from us3l_mm.config import load_config
from us3l_mm.deploy.plain_config import check_config
from us3l_mm.deploy.plain_model import list_widths, plain_model
from us3l_mm.slim import SlimmableLayer, calibrate_bn, to_dense, use_width

pytestmark = pytest.mark.usefixtures('parse_once')

ALL_WIDTHS = 'configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py'
PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
SUPERVISED = 'configs/digits/supervised_r18_1xb64-2e_digits.py'
SNET = 'configs/digits/snet_r18_1xb64-2e_digits.py'
VIT = 'configs/digits/vit-tiny_1xb64-2e_digits.py'
CUSTOM = 'configs/det/faster-rcnn_r50_fpn_voc-custom.py'
TWO_STAGE = 'configs/det/slimmable-faster-rcnn_r50_fpn_1x_coco.py'
SMALL = {
    **{f'model.backbone.{key}': value for key, value in dict(depth=18, stem_channels=16, base_channels=16).items()},
    'model.backbone.init_cfg': None,
    'model.neck.in_channels': [16, 32, 64, 128],
    'model.roi_head.bbox_head.fc_out_channels': 16,
}
PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'


def saved(config, path, change=lambda backbone: None):
    """Model of a config, changed and saved."""
    cfg = load_config(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    change(model.backbone)
    torch.save({'state_dict': model.state_dict()}, path)
    return model.eval()


def test_ready_are_the_widths_calibrated_as_a_whole(tmp_path):
    def change(backbone):
        calibrate_bn(backbone, [0.3, 1.0, {'layer4': 0.5}], [torch.randn(2, 3, 16, 16)])

    saved(PRETRAIN, tmp_path / 'x.pth', change)
    assert list_widths(PRETRAIN, str(tmp_path / 'x.pth')) == [1.0, 0.3]


def test_ready_are_the_widths_that_switchable_norms_list(tmp_path):
    def change(backbone):
        for name, buffer in backbone.named_buffers():
            if 'running' in name:
                torch.nn.init.uniform_(buffer, 0.5, 1.5)

    model = saved(SNET, tmp_path / 'x.pth', change)
    assert list_widths(SNET, str(tmp_path / 'x.pth')) == [1.0, 0.75, 0.5, 0.25]
    plain = plain_model(SNET, str(tmp_path / 'x.pth'), 0.25)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain.model(images), to_dense(model, 0.25)(images), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(layer, SlimmableLayer) for layer in plain.model.modules())


def test_net_without_batch_norm_is_ready_for_every_width(tmp_path):
    model = saved(VIT, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='has no batch norm, so that every width is ready: give --widths'):
        list_widths(VIT, str(tmp_path / 'x.pth'))
    plain = plain_model(VIT, str(tmp_path / 'x.pth'), 0.37)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        got, expected = plain.model.backbone(images), to_dense(model.backbone, 0.37)(images)
    assert len(got) == len(expected) and all(map(torch.equal, got, expected))


def test_classes_and_folder_of_the_command_line_reach_the_plain_detector():
    """Top-level options, which no key of the model takes by itself."""
    narrow = {
        f'model.backbone.{key}': value for key, value in dict(depth=18, stem_channels=16, base_channels=16).items()
    }
    options = {**narrow, 'classes': ['cat', 'dog'], 'data_root': '/there', 'model.backbone.init_cfg': None}
    plain = plain_model(CUSTOM, width=0.5, cfg_options=options)
    assert plain.model.roi_head.bbox_head.num_classes == plain.cfg.model.roi_head.bbox_head.num_classes == 2
    dataset = plain.cfg.test_dataloader.dataset
    assert (dataset.metainfo.classes, dataset.data_root) == (('cat', 'dog'), '/there')


def test_two_stage_detector_for_all_widths_becomes_the_stock_one(tmp_path):
    cfg = load_config(TWO_STAGE, SMALL)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    calibrate_bn(model.slimmable_part(), [0.5], [torch.randn(2, 3, 64, 64)])
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'x.pth')
    plain = plain_model(TWO_STAGE, str(tmp_path / 'x.pth'), 0.5, SMALL)
    assert type(plain.model) is FasterRCNN and plain.cfg.model.neck.in_channels == [8, 16, 32, 64]
    expected = model.eval().dense(0.5).state_dict()
    assert plain.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in plain.model.state_dict().items())


def test_export_of_a_detector_for_all_widths_builds_it_once(tmp_path, monkeypatch):
    cfg = load_config(ALL_WIDTHS, {'model.backbone.init_cfg': None})
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    calibrate_bn(model.slimmable_part(), [0.5], [torch.randn(2, 3, 32, 32)])
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'x.pth')
    built = []
    build = BaseDetector.__init__
    monkeypatch.setattr(BaseDetector, '__init__', lambda self, *a, **k: (built.append(self), build(self, *a, **k))[1])
    plain = plain_model(ALL_WIDTHS, str(tmp_path / 'x.pth'), 0.5)
    assert len(built) == 1 and type(plain.model) is RetinaNet


def probe_checkpoint(path, widths):
    """Calibrated probe with heads of these widths, saved."""
    cfg = load_config(PROBE, {'model.widths': widths, 'model.backbone.init_cfg': None})
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    calibrate_bn(model.backbone, widths, [torch.randn(4, 3, 16, 16)])
    torch.save({'state_dict': model.state_dict()}, path)
    return model.eval()


def test_probe_is_exported_with_the_heads_that_its_checkpoint_has(tmp_path):
    """`tools/linear_probe.py --widths` trains others than the config names."""
    model = probe_checkpoint(tmp_path / 'x.pth', [1.0, 0.3])
    plain = plain_model(PROBE, str(tmp_path / 'x.pth'), 0.3)
    assert type(plain.model.head) is LinearClsHead
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad(), use_width(model.backbone, 0.3):
        expected = model.heads['0_3'](model.neck(model.backbone(images)))
        torch.testing.assert_close(plain.model.head(plain.model.extract_feat(images)), expected)
    with pytest.raises(ValueError, match=r'no head for width 0\.5'):
        plain_model(PROBE, str(tmp_path / 'x.pth'), 0.5)


def test_classifier_of_a_fixed_width_with_a_slimmable_head_becomes_a_stock_one(tmp_path):
    options = {'model.head.type': 'us3l_mm.SlimmableLinearClsHead'}
    cfg = load_config(SUPERVISED, options, width=0.5)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    for name, buffer in model.backbone.named_buffers():
        if 'running' in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'x.pth')
    plain = plain_model(SUPERVISED, str(tmp_path / 'x.pth'), 0.5, options)
    check_config(plain.cfg, plain.model)
    assert type(plain.model.head) is LinearClsHead and plain.cfg.model.head.type == 'mmpretrain.LinearClsHead'
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model.eval().head(model.extract_feat(images))
        torch.testing.assert_close(plain.model.head(plain.model.extract_feat(images)), expected)
