"""The width of a config in one place: what is set, what is left alone, what is refused."""

import copy

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from us3l_mm.config import load_config, set_width
from us3l_mm.models import SlimmableResNet
from us3l_mm.slim import slim_channels

pytestmark = pytest.mark.usefixtures('parse_once')

FULL = [16, 32, 64, 128]


def backbone_cfg(**kwargs):
    return dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16, **kwargs)


def detector(backbone_width=None, in_channels=FULL, **top):
    fixed = {} if backbone_width is None else dict(width=backbone_width)
    backbone = backbone_cfg(out_indices=(0, 1, 2, 3), **fixed)
    neck = dict(type='FPN', in_channels=list(in_channels), out_channels=16, num_outs=4)
    return Config(dict(default_scope='mmdet', model=dict(type='RetinaNet', backbone=backbone, neck=neck), **top))


def classifier(neck=None, **head):
    model = dict(type='ImageClassifier', backbone=backbone_cfg(), head=dict(type='LinearClsHead', **head))
    if neck is not None:
        model['neck'] = neck
    return Config(dict(default_scope='mmpretrain', model=model))


@pytest.mark.parametrize('width', [0.25, 0.3, 0.5, 0.9, 1, 1.0])
def test_neck_reads_the_channels_of_the_rounding_rule(width):
    cfg = set_width(detector(), width)
    assert cfg.model.backbone.width == width
    assert cfg.model.neck.in_channels == [slim_channels(channels, width) for channels in FULL]
    assert list(MODELS.build(dict(cfg.model.backbone)).out_channels) == cfg.model.neck.in_channels


def test_argument_goes_before_top_level_width_before_backbone():
    cfg = set_width(detector(1.0))
    assert cfg.model.neck.in_channels == FULL
    cfg.width = 0.5
    assert set_width(cfg).model.neck.in_channels == [8, 16, 32, 64]
    set_width(cfg, 0.25)
    assert cfg.model.neck.in_channels == [8, 8, 16, 32]
    assert cfg.width == cfg.model.backbone.width == 0.25
    before = copy.deepcopy(cfg.to_dict())
    assert set_width(cfg).to_dict() == before  # what a run has dumped is read again


def test_first_neck_with_in_channels_is_set():
    cfg = detector()
    cfg.model.neck = [cfg.model.neck, dict(type='BFP', in_channels=16, num_levels=4)]
    set_width(cfg, 0.5)
    assert [neck.in_channels for neck in cfg.model.neck] == [[8, 16, 32, 64], 16]


@pytest.mark.parametrize('neck', [None, dict(type='GlobalAveragePooling'), [dict(type='GlobalAveragePooling')]])
def test_head_is_set_without_neck_channels(neck):
    assert set_width(classifier(neck, num_classes=10, in_channels=128), 0.5).model.head.in_channels == 64


def test_number_means_the_last_output():
    cfg = classifier(dict(type='LinearNeck', in_channels=128, out_channels=7), num_classes=10, in_channels=7)
    set_width(cfg, 0.25)
    assert (cfg.model.neck.in_channels, cfg.model.head.in_channels) == (32, 7)


@pytest.mark.parametrize('width', [None, 0.5])
def test_neck_that_reads_the_deepest_features_first_gets_them_in_that_order(width):
    """YOLOv3's."""
    assert set_width(detector(in_channels=FULL[::-1]), width).model.neck.in_channels == (
        FULL[::-1] if width is None else [64, 32, 16, 8]
    )


def test_panoptic_head_reads_the_backbone():
    cfg = detector()
    cfg.model.panoptic_head = dict(type='MaskFormerHead', in_channels=FULL)
    del cfg.model['neck']
    assert set_width(cfg, 0.5).model.panoptic_head.in_channels == [8, 16, 32, 64]
    cfg.model.panoptic_head.in_channels = FULL
    with pytest.raises(ValueError, match=r'model.panoptic_head.in_channels=\[16, 32, 64, 128\] does not match'):
        set_width(Config(dict(model=cfg.model)))


@pytest.mark.parametrize('width', [None, 0.3])
def test_checking_changes_nothing(width):
    channels = FULL if width is None else [8, 16, 24, 40]
    cfg = detector(width, channels)
    before = copy.deepcopy(cfg.to_dict())
    assert set_width(cfg).to_dict() == before


def test_mismatch_names_both_lists():
    with pytest.raises(ValueError, match=r'(?s)\[16, 32, 64, 128\] does not match.*0\.5.*\[8, 16, 32, 64\]'):
        set_width(detector(0.5))
    with pytest.raises(ValueError, match=r'model.head.in_channels=64 does not match.*\[128\]'):
        set_width(classifier(num_classes=10, in_channels=64))


@pytest.mark.parametrize('backbone', ['ResNet', 'mmdet.ResNet', 'mmpretrain.ResNet', None])
def test_backbones_of_others_are_left_alone(backbone):
    neck = dict(type='FPN', in_channels=[1, 2], out_channels=16, num_outs=4)
    model = dict(type='RetinaNet', neck=neck)
    if backbone is not None:
        model['backbone'] = dict(type=backbone, depth=18)
    cfg = Config(dict(default_scope='mmdet', model=model))
    before = copy.deepcopy(cfg.to_dict())
    assert set_width(cfg).to_dict() == before
    with pytest.raises(ValueError, match=r"width=0\.5 needs a slimmable backbone such as 'us3l_mm"):
        set_width(cfg, 0.5)


@pytest.mark.parametrize('width', [0, -0.5, 1.01, float('nan')])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match=r'width must be in \(0, 1\], got'):
        set_width(detector(), width)


@pytest.mark.parametrize('width', ['0.5', True])
def test_width_that_is_no_number(width):
    with pytest.raises(TypeError, match='width must be a number'):
        set_width(detector(), width)


def test_unknown_reader():
    cfg = detector()
    del cfg.model['neck']
    before = copy.deepcopy(cfg.to_dict())
    assert set_width(cfg).to_dict() == before
    with pytest.raises(ValueError, match='neither model.neck nor model.head has in_channels'):
        set_width(cfg, 0.5)


def test_pretrained_weights_are_not_read():
    cfg = detector()
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='/nowhere.pth', prefix='backbone.')
    set_width(cfg, 0.5)
    assert cfg.model.backbone.init_cfg.checkpoint == '/nowhere.pth'


def test_load_config_puts_the_options_in_before_the_width(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(f'default_scope = "mmdet"\nmodel = {detector().model.to_dict()!r}\n')
    cfg = load_config(str(path), {'model.backbone.base_channels': 32}, launcher='pytorch', width=0.5)
    assert cfg.model.neck.in_channels == [16, 32, 64, 128]
    assert (cfg.launcher, cfg.work_dir) == ('pytorch', 'work_dirs/small')
    assert load_config(str(path), {'work_dir': 'there'}).work_dir == 'there'
    assert load_config(str(path), {'work_dir': 'there'}, work_dir='here').work_dir == 'here'


def two_stage(width=1.0, shared='us3l_mm.SlimmableResLayer', cascade=False):
    """C4: three stages in the backbone, the fourth in the region head."""
    small = dict(depth=50, stem_channels=16, base_channels=16)
    weights = dict(type='Pretrained', checkpoint='/nowhere.pth', prefix='backbone.')
    stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), init_cfg=weights)
    head = dict(type='BBoxHead', in_channels=512)
    roi_head = dict(
        type='StandardRoIHead',
        shared_head=dict(type=shared, width=1.0, **small),
        bbox_roi_extractor=dict(type='SingleRoIExtractor', out_channels=256),
        bbox_head=[head, dict(head)] if cascade else head,
        mask_roi_extractor=None,
        mask_head=dict(type='FCNMaskHead', in_channels=512),
    )
    backbone = dict(type='us3l_mm.SlimmableResNet', width=width, **small, **stages)
    rpn_head = dict(type='RPNHead', in_channels=256, feat_channels=32)
    model = dict(type='MaskRCNN', backbone=backbone, rpn_head=rpn_head, roi_head=roi_head)
    return Config(dict(default_scope='mmdet', model=model))


@pytest.mark.parametrize('width', [1.0, 0.9, 0.5, 0.3])
@pytest.mark.parametrize('cascade', [False, True])
def test_region_heads_follow_without_a_neck(width, cascade):
    model = set_width(two_stage(cascade=cascade), width).model
    c4, c5 = slim_channels(256, width), slim_channels(512, width)
    assert model.rpn_head.in_channels == model.roi_head.bbox_roi_extractor.out_channels == c4
    assert model.roi_head.shared_head.width == model.backbone.width == width
    heads = model.roi_head.bbox_head if cascade else [model.roi_head.bbox_head]
    assert [head.in_channels for head in [*heads, model.roi_head.mask_head]] == [c5] * (2 + cascade)
    assert model.rpn_head.feat_channels == 32  # what a head has inside is its own


def test_shared_head_is_loaded_as_the_backbone_is():
    cfg = set_width(two_stage(), 0.5)
    assert cfg.model.roi_head.shared_head.init_cfg == cfg.model.backbone.init_cfg
    cfg = two_stage()
    cfg.model.roi_head.shared_head.init_cfg = None
    assert set_width(cfg, 0.5).model.roi_head.shared_head.init_cfg is None


@pytest.mark.parametrize(
    ('part', 'change', 'message'),
    [
        ('rpn_head', dict(in_channels=128), r'rpn_head.in_channels=128 does not match.*\[256\].*in_channels=256'),
        ('roi_head', dict(shared_head=dict(width=0.5)), r'shared_head.width=0.5 does not match.*width=1.0'),
        ('roi_head', dict(bbox_head=dict(in_channels=256)), r'bbox_head.in_channels=256 does not match.*=512'),
        ('roi_head', dict(bbox_roi_extractor=dict(out_channels=8)), r'out_channels=8 does not match.*\[256\]'),
    ],
)
def test_mismatch_behind_the_backbone_names_both_numbers(part, change, message):
    cfg = two_stage()
    set_width(cfg)  # in order
    cfg.merge_from_dict(dict(model={part: change}))
    with pytest.raises(ValueError, match=message):
        set_width(cfg)


def test_shared_head_of_others_is_refused():
    with pytest.raises(ValueError, match="shared_head.type='ResLayer' has no width: use 'us3l_mm.SlimmableResLayer'"):
        set_width(two_stage(shared='ResLayer'), 0.5)


PARTS = {'layer2': 0.5, 'layer4': 0.75}


@pytest.mark.parametrize('top_level', [False, True])
def test_widths_of_parts_reach_backbone_and_neck(top_level):
    cfg = detector(**(dict(width=PARTS) if top_level else {}))
    set_width(cfg, None if top_level else PARTS)
    assert cfg.model.backbone.width == PARTS
    assert cfg.model.neck.in_channels == [16, 16, 64, 96]
    before = copy.deepcopy(cfg.to_dict())
    assert set_width(Config(before)).to_dict() == before  # what a run has dumped is read again


def test_widths_of_parts_reach_the_shared_head():
    model = set_width(two_stage(), {'layer1': 0.5, 'layer3': 0.5}).model
    assert model.backbone.width == model.roi_head.shared_head.width == {'layer1': 0.5, 'layer3': 0.5}
    assert (model.rpn_head.in_channels, model.roi_head.bbox_head.in_channels) == (128, 512)


@pytest.mark.parametrize(
    ('widths', 'message'),
    [
        ({'layer1': 0.5}, 'outputs that are added, as in a residual sum, need one width'),  # with the stem
        ({'layer9': 0.5}, r"no slimmable layer in \['layer9'\]; its parts: \['conv1', 'bn1', 'layer1'"),
        ({'layer4': 1.5}, r'width must be in \(0, 1\], got 1.5'),
        ({}, 'need at least one part'),
    ],
)
def test_parts_that_cannot_be(widths, message):
    with pytest.raises(ValueError, match=message):
        set_width(detector(), widths)


def test_mismatch_at_widths_of_parts_names_both():
    cfg = set_width(detector(), PARTS)
    cfg.model.neck.in_channels = list(FULL)
    with pytest.raises(ValueError, match=r'(?s)\[16, 32, 64, 128\] does not match.*layer2.*\[16, 16, 64, 96\]'):
        set_width(cfg)


@pytest.mark.parametrize(
    ('path', 'builds'),
    [('mask-rcnn_r50_fpn_1x_coco', 1), ('mask-rcnn_r50_c4_1x_coco', 2)],  # C4: backbone, and its last stage as a head
)
def test_each_network_is_built_once(path, builds, monkeypatch):
    built = []
    build = SlimmableResNet.__init__
    monkeypatch.setattr(
        SlimmableResNet, '__init__', lambda self, *a, **k: (built.append(self), build(self, *a, **k))[1]
    )
    load_config(f'configs/det/{path}.py', width=0.5)
    assert len(built) == builds
