"""Exports at widths of parts, and of a detector for all widths, against the nets they come from."""

import copy
from contextlib import nullcontext

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from us3l_mm.config import load_config
from us3l_mm.slim import SlimmableLayer, calibrate_bn, use_width, width_label

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'
CLASSIFIER = 'configs/digits/usnet_r18_1xb64-2e_digits.py'
DETECTOR = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
ALL_WIDTHS = 'configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py'
PARTS = {'layer3': 0.5, 'layer4': 0.75}
DET_PARTS = {'backbone.layer3': 0.5, 'backbone.layer4': 0.75, 'neck': 0.5}
CONFIGS = {'pretrain': PRETRAIN, 'classifier': CLASSIFIER, 'detector': DETECTOR, 'all widths': ALL_WIDTHS}
NARROW_NECK = {
    'model.neck.conv_cfg.slim_out': True,
    'model.neck.norm_cfg.type': 'us3l_mm.SlimmableBatchNorm2d',
    'model.bbox_head.conv_cfg.type': 'us3l_mm.SlimmableConv2d',
    'model.bbox_head.conv_cfg.slim_out': False,
}


def trained(path, config, options=None, width=None, calibrate=()):
    """Model of a config with values as if trained, saved."""
    cfg = load_config(config, {'model.backbone.init_cfg': None, **(options or {})}, width=width)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    for name, tensor in model.state_dict().items():
        if name.endswith(('running_mean', 'running_var')) or (tensor.dim() == 1 and tensor.is_floating_point()):
            nn.init.uniform_(tensor, 0.5, 1.5)
    if calibrate:
        part = model.slimmable_part() if hasattr(model, 'slimmable_part') else model.backbone
        calibrate_bn(part, calibrate, [torch.randn(4, 3, 32, 32)])
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model.eval()


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Folder of checkpoints, and what they hold."""
    folder = tmp_path_factory.mktemp('parts')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return folder, {
            'pretrain': trained(folder / 'pretrain.pth', PRETRAIN, calibrate=[PARTS]),
            'classifier': trained(folder / 'classifier.pth', CLASSIFIER, calibrate=[PARTS]),
            'detector': trained(folder / 'detector.pth', DETECTOR, width=PARTS),
            'all widths': trained(folder / 'all widths.pth', ALL_WIDTHS, calibrate=[0.5, DET_PARTS]),
        }


def built(out):
    """What a user gets from OUT.py and OUT.pth."""
    cfg = Config.fromfile(f'{out}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(f'{out}.pth', weights_only=True)['state_dict'], strict=True)
    assert not any(isinstance(layer, SlimmableLayer) for layer in model.modules())
    return model.eval()


@torch.no_grad()
def outputs(model, name, images, width):
    """Features, logits or pyramid of the slimmable or plain model."""
    slimmable = any(isinstance(layer, SlimmableLayer) for layer in model.modules())
    part = model.slimmable_part() if name == 'all widths' and slimmable else model.backbone
    with use_width(part, width) if slimmable else nullcontext():
        features = model.backbone(images)
        if name == 'classifier':
            return [model.head(model.neck(features))]
        return list(features if name == 'pretrain' else model.neck(features))


CASES = [
    ('pretrain', PARTS),
    ('classifier', PARTS),
    ('detector', PARTS),
    ('all widths', 0.5),
    ('all widths', DET_PARTS),
]


def export(run_tool, folder, name, width, kind, out):
    size = [] if kind in ('dense', 'stock') else ['--input', 16 if name in ('pretrain', 'classifier') else 32]
    arguments = [CONFIGS[name], folder / f'{name}.pth', '--width', width_label(width), '--format', kind, *size]
    run_tool('export_width', *arguments, '--out', out)


@pytest.mark.parametrize(('name', 'width'), CASES)
def test_dense_export_equals_the_trained_model(run_tool, models, tmp_path, name, width):
    folder, sources = models
    export(run_tool, folder, name, width, 'dense', tmp_path / 'net')
    images = torch.randn(3, 3, 32, 32)
    got, expected = (outputs(model, name, images, width) for model in (built(tmp_path / 'net'), sources[name]))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ['pretrain', 'classifier', 'detector'])
def test_stock_export_refuses_widths_of_parts(run_tool, models, tmp_path, name):
    with pytest.raises(ValueError, match='one width for all its parts, got .*layer3.*use --format dense'):
        export(run_tool, models[0], name, PARTS, 'stock', tmp_path / 'net')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', ['onnx', 'torch-export'])
@pytest.mark.parametrize(('name', 'width'), [case for case in CASES if case[1] != 0.5])
def test_program_equals_the_trained_model(run_tool, models, tmp_path, name, width, kind):
    folder, sources = models
    side = 16 if name in ('pretrain', 'classifier') else 32
    images = torch.randn(3, 3, side, side)
    if kind == 'onnx':
        onnxruntime = pytest.importorskip('onnxruntime')
        export(run_tool, folder, name, width, kind, tmp_path / 'net')
        session = onnxruntime.InferenceSession(tmp_path / 'net.onnx', providers=['CPUExecutionProvider'])
        got = [torch.from_numpy(array) for array in session.run(None, {'images': images.numpy()})]
    else:
        export(run_tool, folder, name, width, kind, tmp_path / 'net')
        got = torch.export.load(tmp_path / 'net.pt2').module()(images)
        got = [got] if isinstance(got, torch.Tensor) else got
    for a, b in zip(got, outputs(sources[name], name, images, width), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options', [{}, NARROW_NECK], ids=['full neck', 'narrow neck with batch norm'])
def test_exported_detector_finds_what_the_one_for_all_widths_finds(run_tool, tmp_path, options):
    source = trained(tmp_path / 'all widths.pth', ALL_WIDTHS, options, calibrate=[0.5])
    said = [f'{key}={value}' for key, value in options.items()]
    said = ['--cfg-options', *said] if said else []
    arguments = [ALL_WIDTHS, tmp_path / 'all widths.pth', '--width', 0.5, '--format', 'dense', *said]
    run_tool('export_width', *arguments, '--out', tmp_path / 'net')
    plain = built(tmp_path / 'net')
    assert type(plain).__name__ == 'RetinaNet'
    model = Config.fromfile(tmp_path / 'net.py').model
    assert model.neck.in_channels == [32, 64] and model.neck.out_channels == (16 if options else 32)
    assert str(model.to_dict()).count('us3l_mm') == 1  # the backbone of a fixed width
    found = []
    for detector in (plain, source):
        detector.double().test_cfg.score_thr = 0.0
        data = detector.data_preprocessor(demo_mm_inputs(2, [[3, 64, 64], [3, 64, 48]], num_classes=10), False)
        data['inputs'] = data['inputs'].double()
        with torch.no_grad(), nullcontext() if detector is plain else use_width(source.slimmable_part(), 0.5):
            found.append(detector(**copy.deepcopy(data), mode='predict'))
    for ours, theirs in zip(*found, strict=True):
        assert len(ours.pred_instances) > 0
        torch.testing.assert_close(ours.pred_instances.bboxes, theirs.pred_instances.bboxes)
        torch.testing.assert_close(ours.pred_instances.scores, theirs.pred_instances.scores)


def test_stock_export_of_a_detector_for_all_widths_is_all_stock(run_tool, models, tmp_path):
    folder, sources = models
    export(run_tool, folder, 'all widths', 0.5, 'stock', tmp_path / 'net')
    assert 'us3l_mm.' not in str(Config.fromfile(tmp_path / 'net.py').model.to_dict())
    images = torch.randn(2, 3, 32, 32)
    got = outputs(built(tmp_path / 'net'), 'all widths', images, 0.5)
    for a, b in zip(got, outputs(sources['all widths'], 'all widths', images, 0.5), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_uncalibrated_width_of_a_detector_names_the_command(run_tool, models, tmp_path):
    with pytest.raises(RuntimeError, match=r'us3l calibrate CONFIG CHECKPOINT --widths 0\.75'):
        export(run_tool, models[0], 'all widths', 0.75, 'dense', tmp_path / 'net')


@pytest.mark.parametrize(
    ('name', 'width', 'message'),
    [
        ('pretrain', {'layer2': 0.5, 'layer9': 0.5}, r"no slimmable layer in \['layer9'\]"),
        ('pretrain', {'layer1': 0.5}, 'need one width'),  # the stem is added to it
        ('detector', {'layer1': 0.5}, 'need one width'),
        ('all widths', {'layer3': 0.5}, r"no slimmable layer in \['layer3'\]; its parts: \['backbone', 'neck'\]"),
        ('all widths', {'backbone': 0.5, 'backbone.layer4': 0.75}, 'name the backbone or parts of it, not both'),
    ],
)
def test_parts_that_cannot_be_are_refused(run_tool, models, tmp_path, name, width, message):
    with pytest.raises(ValueError, match=message):
        export(run_tool, models[0], name, width, 'dense', tmp_path / 'net')


def test_detector_of_ones_own_classes_is_exported_with_them(run_tool, tmp_path):
    trained(tmp_path / 'net.pth', ALL_WIDTHS, {'classes': ['cat', 'dog']}, calibrate=[0.5])
    arguments = [ALL_WIDTHS, tmp_path / 'net.pth', '--width', 0.5, '--format', 'dense', '--out', tmp_path / 'out']
    run_tool('export_width', *arguments, '--cfg-options', 'classes=cat,dog')
    cfg = Config.fromfile(tmp_path / 'out.py')
    assert cfg.model.bbox_head.num_classes == 2
    assert cfg.test_dataloader.dataset.metainfo.classes == ('cat', 'dog')
    built(tmp_path / 'out')
