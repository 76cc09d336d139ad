"""Configs that mmdet and mmpretrain install, with the type of their backbone changed and nothing else."""

import os
import subprocess
import sys

import mmdet
import mmpretrain
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from builders import ROOT
from us3l_mm.config import find_dicts, load_config
from us3l_mm.slim import SlimmableLayer

FOLDERS = {library.__name__: f'{library.__path__[0]}/.mim/configs' for library in (mmdet, mmpretrain)}
DETECTORS = {  # with the least height and width of images
    'retinanet/retinanet_r18_fpn_1x_coco': 64,
    'atss/atss_r50_fpn_1x_coco': 64,
    'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco': 64,
    'detr/detr_r50_8xb2-150e_coco': 64,
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco': 64,
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco': 128,
    'gcnet/mask-rcnn_r50-syncbn_fpn_1x_coco': 64,
    'hrnet/faster-rcnn_hrnetv2p-w18-1x_coco': 64,
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco': 64,
    'regnet/retinanet_regnetx-800MF_fpn_1x_coco': 64,
    'retinanet/retinanet_r50-caffe_fpn_1x_coco': 64,
    'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco': 64,
    'yolof/yolof_r50-c5_8xb8-1x_coco': 64,
}
CLASSIFIERS = {
    'resnet/resnet18_8xb16_cifar10': 32,
    'resnet/resnet50_8xb32_in1k': 32,
    'resnet/resnetv1d50_8xb32_in1k': 32,
    'simclr/benchmarks/resnet50_8xb512-linear-coslr-90e_in1k': 32,
    'hrnet/hrnet-w18_4xb32_in1k': 64,
    'mobilenet_v2/mobilenet-v2_8xb32_in1k': 32,
    'mobilenet_v3/mobilenet-v3-small_8xb128_in1k': 32,
    'regnet/regnetx-400mf_8xb128_in1k': 32,
    'resnext/resnext50-32x4d_8xb32_in1k': 32,
    'seresnet/seresnet50_8xb32_in1k': 32,
    'deit/deit-small_4xb256_in1k': 224,
    'mocov3/benchmarks/vit-small-p16_8xb128-linear-coslr-90e_in1k': 224,
}
PRETRAININGS = {
    'simclr/simclr_resnet50_8xb32-coslr-200e_in1k': 64,
    'barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k': 64,
    'byol/byol_resnet50_16xb256-coslr-200e_in1k': 64,
    'densecl/densecl_resnet50_8xb32-coslr-200e_in1k': 64,
    'mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k': 64,
    'mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k': 64,
    'mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k': 224,
    'simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k': 64,
    'swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px': 64,
}
FAST = {'retinanet/retinanet_r18_fpn_1x_coco', 'resnet/resnet18_8xb16_cifar10', 'resnet/resnetv1d50_8xb32_in1k'}


def cases(names):
    marks = {False: [pytest.mark.slow], True: []}
    return [pytest.param(name, size, marks=marks[name in FAST], id=name) for name, size in names.items()]


@pytest.fixture
def load(tmp_path):
    """Load a config of a library with the one line changed, by a file as a user would write it."""

    def load(library, name, width=None, **options):
        base = f'{FOLDERS[library]}/{name}.py'
        kind = Config.fromfile(base).model.backbone.type
        ours = f'us3l_mm.Slimmable{kind.replace("MoCoV3ViT", "VisionTransformer")}'
        path = tmp_path / 'stock.py'
        path.write_text(f"_base_ = '{base}'\nmodel = dict(backbone=dict(type='{ours}'))\n")
        cfg = load_config(str(path), options, str(tmp_path), width=width)
        for part in find_dicts(cfg.model):
            weights = part.get('init_cfg')
            if isinstance(weights, dict) and weights.type == 'Pretrained':  # nothing is downloaded
                part.init_cfg = None
        init_default_scope(cfg.get('default_scope', library))
        return cfg

    return load


def step(model, *inputs):
    """Train one iteration; return the losses."""
    wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3))
    loss, logs = model.parse_losses(model(*inputs, mode='loss'))
    wrapper.update_params(loss)
    return logs


def is_slimmable(model):
    return any(isinstance(layer, SlimmableLayer) for layer in model.modules())


@pytest.mark.parametrize('width', [None, 0.5])
@pytest.mark.parametrize(('name', 'size'), cases(DETECTORS))
def test_detector_trains(load, name, size, width):
    model = MODELS.build(load('mmdet', name, width).model)
    assert is_slimmable(model.backbone) == (width is None)
    model.train()
    batch = demo_mm_inputs(2, (3, size, size), num_items=[2, 3], num_classes=10, with_mask='mask' in name)
    data = model.data_preprocessor(batch, True)
    logs = step(model, data['inputs'], data['data_samples'])
    assert all(torch.isfinite(value) for value in logs.values()) and len(logs) > 1


@pytest.mark.parametrize('width', [None, 0.5])
@pytest.mark.parametrize(('name', 'size'), cases(CLASSIFIERS))
def test_classifier_trains(load, name, size, width):
    cfg = load('mmpretrain', name, width)
    model = MODELS.build(cfg.model)
    assert is_slimmable(model.backbone) == (width is None)
    model.train()
    samples = [DataSample().set_gt_label(label) for label in (1, 2)]
    for sample in samples:
        sample.set_gt_score(torch.eye(cfg.model.head.num_classes)[1])
    assert step(model, torch.rand(2, 3, size, size), samples)['loss'].isfinite()


# Sizes of necks and heads that are shrunk, each to the same everywhere.
SMALLER = {128: 16, 256: 32, 384: 384, 512: 64, 2048: 256, 4096: 64, 8192: 64}


@pytest.mark.parametrize('width', [None, 0.5])
@pytest.mark.parametrize(('name', 'size'), cases(PRETRAININGS))
def test_pretraining_trains(load, set_time, name, size, width):
    options = {} if 'vit' in name else {'model.backbone.base_channels': 8, 'model.backbone.stem_channels': 8}
    shrunk = Config.fromfile(f'{FOLDERS["mmpretrain"]}/{name}.py').model
    for part in find_dicts(shrunk):
        if part is not shrunk.backbone:
            sizes = {key: SMALLER[value] for key, value in part.items() if isinstance(value, int) and value in SMALLER}
            part.update(sizes)
    options |= {f'model.{key}': shrunk[key].to_dict() for key in ('neck', 'head') if key in shrunk}
    options |= {f'model.{key}': value for key, value in shrunk.items() if isinstance(value, int)}
    model = MODELS.build(load('mmpretrain', name, width, **options).model)
    assert is_slimmable(model.backbone) == (width is None)
    model.train()
    set_time(iteration=0, max_iters=10, epoch=0, max_epochs=2)
    views = [torch.rand(4, 3, size, size) for _ in range(8 if 'swav' in name else 2)]
    assert step(model, views, [DataSample() for _ in range(4)])['loss'].isfinite()


@pytest.mark.parametrize('kind', ['BYOL', 'SimSiam'])
def test_mmpretrains_algorithms_take_a_backbone_as_their_tests_give_it(kind, set_time, mmpretrain_scope):
    neck = dict(
        type='NonLinearNeck', in_channels=512, hid_channels=8, out_channels=8, with_bias=True, with_last_bn=False
    )
    norm = dict(norm_cfg=dict(type='BN1d'))
    predictor = dict(neck, in_channels=8, with_avg_pool=False, **norm)
    model = MODELS.build(
        dict(
            type=kind,
            backbone=dict(type='us3l_mm.SlimmableResNet', depth=18, norm_cfg=dict(type='BN')),
            neck=dict(neck, **norm),
            head=dict(type='LatentPredictHead', loss=dict(type='CosineSimilarityLoss'), predictor=predictor),
        )
    )
    set_time(iteration=0, max_iters=10, epoch=0, max_epochs=2)
    model.train()
    views = [torch.randn(2, 3, 32, 32) for _ in range(2)]
    assert step(model, views, [DataSample() for _ in range(2)])['loss'] > -1
    assert [tuple(x.shape) for x in model(views[0], mode='tensor')] == [(2, 512, 1, 1)]


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco', 'SlimmableResNet has no dcn'),
        ('gcnet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco', 'SlimmableResNet has no plugins'),
        ('gn/mask-rcnn_r50_fpn_gn-all_2x_coco', r"norm_cfg=\{'type': 'GN'.* cannot follow a width: GroupNorm"),
        ('gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco', r"conv_cfg=\{'type': 'ConvWS'\} cannot follow a width"),
    ],
)
def test_what_cannot_be_is_named(load, name, message):
    with pytest.raises(ValueError, match=message):
        load('mmdet', name)


def test_c4_detector_needs_our_shared_head_below_full_width_only(load):
    name = 'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco'
    assert load('mmdet', name).model.roi_head.shared_head.type == 'ResLayer'
    with pytest.raises(ValueError, match="shared_head.type='ResLayer' has no width: use 'us3l_mm.SlimmableResLayer'"):
        load('mmdet', name, 0.5)
    options = {'model.roi_head.shared_head.type': 'us3l_mm.SlimmableResLayer', 'model.roi_head.shared_head.width': 1.0}
    model = MODELS.build(load('mmdet', name, 0.5, **options).model).train()
    shared = model.roi_head.shared_head
    assert isinstance(shared, BaseModule) and shared.out_channels == 1024
    assert not any(layer.training for layer in shared.layer4.modules() if isinstance(layer, torch.nn.BatchNorm2d))


BUILD = (
    'import sys\n'
    'from mmengine.config import Config\n'
    'from mmengine.registry import MODELS, init_default_scope\n'
    'cfg = Config.fromfile(sys.argv[1])\n'
    'init_default_scope(cfg.default_scope)\n'
    'MODELS.build(cfg.model)\n'
)


@pytest.mark.slow
@pytest.mark.skipif(hasattr(sys.modules['mmcv._ext'], '__file__'), reason='full mmcv has its operators')
def test_errors_in_the_faq_are_those_of_a_forgotten_import(tmp_path):
    """A process that reads a config as mmdet's scripts do, which import nothing of ours."""
    faq = (ROOT / 'docs/faq.md').read_text()
    bases = ('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco'), ('mmpretrain', 'resnet/resnet18_8xb32_in1k')
    line = "model = dict(backbone=dict(type='us3l_mm.SlimmableResNet', init_cfg=None))\n"
    detector, classifier = (f"_base_ = '{FOLDERS[library]}/{name}.py'\n{line}" for library, name in bases)
    need = "custom_imports = dict(imports=['us3l_mm'])\n"

    def run(text, path=ROOT):
        (tmp_path / 'stock.py').write_text(text)
        command = [sys.executable, '-W', 'ignore', '-c', BUILD, 'stock.py']
        env = os.environ | {'PYTHONPATH': str(path)}
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path).stderr

    forgotten = run(detector).splitlines()[-1]
    assert forgotten == "ModuleNotFoundError: No module named 'mmcv._ext'" and forgotten in faq
    assert run(need + detector) == ''
    (tmp_path / 'us3l_mm').mkdir()
    (tmp_path / 'us3l_mm/__init__.py').write_text("raise ImportError('no such version')")
    unknown = run(classifier, tmp_path).splitlines()[-1]
    error = "KeyError: 'us3l_mm.SlimmableResNet is not in the mmpretrain::model registry"
    assert unknown.startswith(error) and f"`{error}'`" in faq
    assert 'ImportError: no such version' in run(need + classifier, tmp_path)


def test_readme_shows_the_line_with_the_import_that_it_needs():
    text = (ROOT / 'README.md').read_text()
    assert "custom_imports = dict(imports=['us3l_mm'])" in text
