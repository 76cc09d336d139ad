"""Exports of one width, against the slimmable net they come from."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from us3l_mm.config import load_config
from us3l_mm.deploy import export
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableLayer, calibrate_bn, to_dense, use_width

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'
CLASSIFIER = 'configs/digits/usnet_r18_1xb64-2e_digits.py'
FIXED = 'configs/digits/supervised_r18_1xb64-2e_digits.py'
PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
DETECTOR = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
WIDTHS = [1.0, 0.5, 0.3]
SHORT = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))  # for speed
R50 = dict(type='us3l_mm.SlimmableResNet', depth=50, stem_channels=32, base_channels=32, **SHORT)
PIXELS = dict(type='SelfSupDataPreprocessor', mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)


def randomise(model):
    """Values as if trained: nothing at zero or one, statistics of plain norms among them."""
    for name, tensor in model.state_dict().items():
        if name.endswith(('running_mean', 'running_var')) or (tensor.dim() == 1 and tensor.is_floating_point()):
            nn.init.uniform_(tensor, 0.5, 1.5)


def trained(config, width=None, widths=None):
    """Model of a config with a calibrated backbone."""
    cfg = load_config(str(config), width=width)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    randomise(model)
    if widths:
        calibrate_bn(model.backbone, widths, [torch.randn(4, 3, 32, 32)])
    return model.eval()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs and checkpoints of a pretraining, a classifier, a probe, a detector and a ResNet-50."""
    folder = tmp_path_factory.mktemp('export')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Config(dict(default_scope='mmpretrain', model=dict(type='BYOL', backbone=R50, data_preprocessor=PIXELS))).dump(
            folder / 'r50.py'
        )
        net = MODELS.build(R50)
        randomise(net)
        calibrate_bn(net, [0.75, 0.5, 0.25], [torch.randn(4, 3, 32, 32)])
        torch.save({'state_dict': {f'backbone.{k}': v for k, v in net.state_dict().items()}}, folder / 'r50.pth')
        torch.save(net, folder / 'r50.model')
        for name, config, width, widths in (
            ('pretrain', PRETRAIN, None, WIDTHS),
            ('raw', PRETRAIN, None, None),
            ('classifier', CLASSIFIER, None, WIDTHS),
            ('fixed', FIXED, 0.5, None),
            ('probe', PROBE, None, [1.0, 0.75, 0.5, 0.25]),
            ('detector', DETECTOR, 0.5, None),
        ):
            model = trained(config, width, widths)
            if name == 'raw':
                [norm.forget() for norm in model.backbone.modules() if isinstance(norm, SlimmableBatchNorm2d)]
            state = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('zero', 'one'))))
            torch.save(state, folder / f'{name}.pth')
            torch.save(model, folder / f'{name}.model')
    return folder


def source(folder, name):
    return torch.load(folder / f'{name}.model', weights_only=False).eval()


def built(out):
    """What a user gets from OUT.py and OUT.pth."""
    cfg = Config.fromfile(f'{out}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    saved = torch.load(f'{out}.pth', weights_only=True)
    model.load_state_dict(saved['state_dict'], strict=True)
    return model.eval(), cfg, saved['meta']


def logits(folder, width, images):
    """Of the slimmable classifier."""
    model = source(folder, 'classifier')
    with torch.no_grad(), use_width(model.backbone, width):
        return model.head(model.neck(model.backbone(images)))


def outputs(model, images):
    with torch.no_grad():
        found = model(images)
    return [found] if isinstance(found, torch.Tensor) else list(found)


def export_width(run_tool, folder, name, config, *args):
    run_tool('export_width', config, folder / f'{name}.pth', *args)


@pytest.mark.parametrize('width', [1.0, 0.3])
def test_dense_backbone_equals_the_slimmable_one(run_tool, folder, tmp_path, width):
    out = tmp_path / 'net.v1'  # a dot in the name is kept
    export_width(run_tool, folder, 'pretrain', PRETRAIN, '--width', width, '--format', 'dense', '--out', out)
    model, cfg, meta = built(out)
    assert not any(isinstance(layer, SlimmableLayer) for layer in model.modules())
    assert cfg.model.backbone.width == width == meta['us3l_mm_export']['width']
    assert cfg.model.data_preprocessor.mean == [80.0] * 3 == meta['us3l_mm_export']['preprocessing']['mean']
    backbone, images = source(folder, 'pretrain').backbone, torch.randn(3, 3, 16, 16)
    with use_width(backbone, width), torch.no_grad():
        torch.testing.assert_close(model.backbone(images), backbone(images), rtol=1e-5, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['net.v1.pth', 'net.v1.py']


def test_widths_of_parts_are_exported_dense_and_not_stock(run_tool, folder, tmp_path):
    backbone, widths = source(folder, 'pretrain').backbone, {'layer3': 0.5, 'layer4': 0.75}
    calibrate_bn(backbone, [widths], [torch.randn(4, 3, 16, 16)])
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in backbone.state_dict().items()}}, tmp_path / 'mixed.pth')
    args = ['--width', 'layer3=0.5,layer4=0.75', '--out', tmp_path / 'a']
    export_width(run_tool, tmp_path, 'mixed', PRETRAIN, *args, '--format', 'dense')
    images = torch.randn(3, 3, 16, 16)
    with use_width(backbone.eval(), widths), torch.no_grad():
        expected = backbone(images)
    torch.testing.assert_close(built(tmp_path / 'a')[0].backbone(images), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match='one width for all its parts'):
        export_width(run_tool, tmp_path, 'mixed', PRETRAIN, *args, '--format', 'stock')


def test_dense_classifier_equals_the_slimmable_one(run_tool, folder, tmp_path):
    export_width(
        run_tool, folder, 'classifier', CLASSIFIER, '--width', 0.5, '--format', 'dense', '--out', tmp_path / 'c'
    )
    model, cfg, meta = built(tmp_path / 'c')
    assert type(model).__name__ == 'ImageClassifier' and type(model.head).__name__ == 'LinearClsHead'
    assert cfg.test_evaluator.type == 'mmpretrain.Accuracy' and meta['dataset_meta']['classes'] == ('zero', 'one')
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(outputs(model, images)[0], logits(folder, 0.5, images), rtol=1e-5, atol=1e-5)


def test_probe_becomes_the_classifier_of_that_width(run_tool, folder, tmp_path):
    export_width(run_tool, folder, 'probe', PROBE, '--width', 0.5, '--format', 'dense', '--out', tmp_path / 'p')
    model, _, _ = built(tmp_path / 'p')
    probe, images = source(folder, 'probe'), torch.randn(3, 3, 16, 16)
    with torch.no_grad(), use_width(probe.backbone, 0.5):
        expected = probe.heads['0_5'](probe.neck(probe.backbone(images)))
    torch.testing.assert_close(outputs(model, images)[0], expected, rtol=1e-5, atol=1e-5)


def test_dense_export_can_be_exported_again(run_tool, folder, tmp_path):
    export_width(run_tool, folder, 'pretrain', PRETRAIN, '--width', 0.5, '--format', 'dense', '--out', tmp_path / 'a')
    run_tool('export_width', tmp_path / 'a.py', tmp_path / 'a.pth', '--format', 'stock', '--out', tmp_path / 'b')
    images = torch.randn(2, 3, 16, 16)
    a, b = built(tmp_path / 'a')[0], built(tmp_path / 'b')[0]
    assert torch.equal(a.backbone(images)[0], b.backbone(images)[0])


# us3l_mm is also what makes mmdet importable without the compiled part of mmcv, so that has to be stood in for.
WITHOUT_US3L_MM = """
import importlib.machinery, sys, types, warnings
warnings.filterwarnings('ignore')
sys.modules['us3l_mm'] = None  # importing it raises
class Extension(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return print
ext = Extension('mmcv._ext')
ext.__spec__ = importlib.machinery.ModuleSpec('mmcv._ext', None)
try:
    import mmcv._ext
except ImportError:
    import mmcv
    sys.modules['mmcv._ext'] = mmcv._ext = ext
import torch
torch.set_num_threads(1)
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
images, outs = torch.load(sys.argv[1] + '/images.pth'), {}
for out in sys.argv[2:]:
    cfg = Config.fromfile(f'{out}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(f'{out}.pth', weights_only=True)['state_dict'], strict=True)
    with torch.no_grad():
        outs[out] = model.eval().backbone(images)
assert sys.modules['us3l_mm'] is None
torch.save(outs, sys.argv[1] + '/features.pth')
"""


def test_stock_backbones_give_the_same_features_without_us3l_mm(run_tool, folder, tmp_path):
    net, images, expected = source(folder, 'r50'), torch.randn(2, 3, 32, 32), {}
    for framework, width in (('mmpretrain', 0.25), ('mmpretrain', 0.5), ('mmpretrain', 0.75), ('mmdet', 0.5)):
        out = tmp_path / f'{framework}_{width}'
        args = ['--width', width, '--format', 'stock', '--framework', framework, '--out', out]
        export_width(run_tool, folder, 'r50', folder / 'r50.py', *args)
        cfg = Config.fromfile(f'{out}.py')
        assert cfg.model.backbone.type == f'{framework}.ResNet' and cfg.model.backbone.base_channels == 32 * width
        assert 'import' not in out.with_name(f'{out.name}.py').read_text()
        with torch.no_grad():
            expected[str(out)] = to_dense(net, width)(images)
    torch.save(images, tmp_path / 'images.pth')
    subprocess.run([sys.executable, '-c', WITHOUT_US3L_MM, tmp_path, *expected], check=True, cwd=tmp_path)
    got = torch.load(tmp_path / 'features.pth')
    assert got.keys() == expected.keys()
    for out, features in got.items():
        assert len(features) == 2 and all(torch.equal(a, b) for a, b in zip(features, expected[out], strict=True))


def test_stock_detector_keeps_the_rest_of_the_model(run_tool, folder, tmp_path):
    args = ['--width', 0.5, '--format', 'stock', '--out', tmp_path / 'd']
    export_width(run_tool, folder, 'detector', DETECTOR, *args)
    model, cfg, _ = built(tmp_path / 'd')
    assert cfg.model.backbone.type == 'mmpretrain.ResNet_CIFAR' and cfg.model.type == 'RetinaNet'
    images, ours = torch.randn(1, 3, 32, 48), source(folder, 'detector')
    for a, b in zip(model(images), ours(images), strict=True):
        assert all(map(torch.equal, a, b))


def test_width_without_stock_net_names_the_nearest_that_have_one(run_tool, folder):
    with pytest.raises(ValueError, match=r'Nearest widths that fit: 0\.25, 0\.5, 0\.75, 1; --format dense'):
        export_width(run_tool, folder, 'r50', folder / 'r50.py', '--width', 0.45, '--format', 'stock')


def mobilenet(folder, kind):
    backbone = dict(type=f'us3l_mm.{kind}', widen_factor=0.25)
    Config(dict(model=dict(type='BYOL', backbone=backbone))).dump(folder / f'{kind}.py')
    net = MODELS.build(backbone)
    randomise(net)
    calibrate_bn(net, [0.5], [torch.randn(2, 3, 32, 32)])
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in net.state_dict().items()}}, folder / f'{kind}.pth')


def test_mobilenet_is_stock_by_its_widen_factor(run_tool, tmp_path):
    mobilenet(tmp_path, 'SlimmableMobileNetV2')
    args = ['--width', 0.5, '--format', 'stock', '--out', tmp_path / 'm']
    export_width(run_tool, tmp_path, 'SlimmableMobileNetV2', tmp_path / 'SlimmableMobileNetV2.py', *args)
    model, cfg, _ = built(tmp_path / 'm')
    assert cfg.model.backbone == dict(type='mmpretrain.MobileNetV2', widen_factor=0.125)


def test_net_that_only_looks_like_a_stock_one_is_refused(run_tool, tmp_path):
    mobilenet(tmp_path, 'SlimmableMobileNetV2_CIFAR')  # other strides: same weights, other features
    args = ['--width', 0.5, '--format', 'stock']
    with pytest.raises(ValueError, match='computes something else than mmpretrain.MobileNetV2'):
        export_width(
            run_tool, tmp_path, 'SlimmableMobileNetV2_CIFAR', tmp_path / 'SlimmableMobileNetV2_CIFAR.py', *args
        )


def expected_of(folder, name, images):
    """Features, logits or pyramid of what ``name`` holds at width 0.5, by the slimmable or the trained model."""
    if name == 'classifier':
        return [logits(folder, 0.5, images)]
    model = source(folder, name)
    with torch.no_grad():
        if name == 'detector':
            return list(model.neck(model.backbone(images)))
        with use_width(model.backbone, 0.5):
            return list(model.backbone(images))


PROGRAMS = [('pretrain', PRETRAIN, (16, 16)), ('classifier', CLASSIFIER, (16, 16)), ('detector', DETECTOR, (32, 48))]


@pytest.mark.parametrize(('name', 'config', 'size'), PROGRAMS)
def test_onnx_model_equals_torch_at_every_batch_size(run_tool, folder, tmp_path, name, config, size):
    onnxruntime = pytest.importorskip('onnxruntime')
    args = ['--width', 0.5, '--format', 'onnx', '--input', *size, '--out', tmp_path / 'net.onnx']
    export_width(run_tool, folder, name, config, *args)
    session = onnxruntime.InferenceSession(tmp_path / 'net.onnx', providers=['CPUExecutionProvider'])
    about = session.get_modelmeta().custom_metadata_map
    assert about['width'] == '0.5' and json.loads(about['preprocessing'])['mean'] == [80.0] * 3
    assert [i.name for i in session.get_inputs()] == ['images']
    names = [output.name for output in session.get_outputs()]
    assert names == (['logits'] if name == 'classifier' else [f'features_{i}' for i in range(len(names))])
    for batch in (1, 5):
        images = torch.randn(batch, 3, *size)
        got = session.run(None, {'images': images.numpy()})
        for a, b in zip(got, expected_of(folder, name, images), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ['net.onnx']


@pytest.mark.parametrize(('name', 'config', 'size'), PROGRAMS)
def test_torch_program_equals_torch_at_every_batch_size(run_tool, folder, tmp_path, name, config, size):
    args = ['--width', 0.5, '--format', 'torch-export', '--input', *size, '--out', tmp_path / 'net']
    export_width(run_tool, folder, name, config, *args)
    extra = {'us3l_mm.json': ''}
    program = torch.export.load(tmp_path / 'net.pt2', extra_files=extra)
    assert not any('bbox_head' in name for name in program.state_dict)
    program = program.module()
    assert json.loads(extra['us3l_mm.json'])['width'] == 0.5
    for batch in (1, 5):
        images = torch.randn(batch, 3, *size)
        for a, b in zip(outputs(program, images), expected_of(folder, name, images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_outputs_that_differ_are_refused():
    a = torch.ones(2, 3)
    assert export.check_outputs((a,), (a + 5e-5,), 'X') < 1e-4
    for bad in (a + 1e-2, a * float('nan'), a[:1]):
        with pytest.raises(RuntimeError, match='^X '):
            export.check_outputs((a,), (bad,), 'X')


def test_missing_onnx_names_the_command(run_tool, folder, monkeypatch):
    monkeypatch.setattr(export, 'ONNX_PACKAGES', ('onnx', 'no_such_package'))
    with pytest.raises(ImportError, match='needs no_such_package. Fix: pip install onnx no_such_package'):
        export_width(run_tool, folder, 'pretrain', PRETRAIN, '--width', 0.5, '--format', 'onnx')


def test_old_torch_names_the_command(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.4.1')
    with pytest.raises(ImportError, match='torch >= 2.6, found 2.4.1'):
        export.check_onnx_packages()


def test_what_is_there_is_kept_without_force(run_tool, folder, tmp_path):
    args = ['--width', 0.5, '--format', 'dense', '--out', tmp_path / 'a.pth']
    (tmp_path / 'a.py').write_text('mine')
    with pytest.raises(FileExistsError, match='give --force'):
        export_width(run_tool, folder, 'pretrain', PRETRAIN, *args)
    assert (tmp_path / 'a.py').read_text() == 'mine' and not (tmp_path / 'a.pth').exists()
    export_width(run_tool, folder, 'pretrain', PRETRAIN, *args, '--force')
    assert built(tmp_path / 'a')[1].model.backbone.width == 0.5


@pytest.mark.parametrize(
    ('name', 'config', 'args', 'error', 'message'),
    [
        ('raw', PRETRAIN, ['--width', 0.5], RuntimeError, 'us3l calibrate CONFIG CHECKPOINT --widths 0.5'),
        ('raw', PRETRAIN, ['--width', 1.0], RuntimeError, 'no batch-norm statistics for width 1 '),
        ('pretrain', PRETRAIN, ['--width', 0.4], RuntimeError, 'us3l calibrate CONFIG CHECKPOINT --widths 0.4'),
        ('pretrain', PRETRAIN, [], ValueError, 'leaves the width open: give --width'),
        ('probe', PROBE, ['--width', 0.3], ValueError, 'no head for width 0.3, only for'),
        ('detector', DETECTOR, ['--width', 0.25], RuntimeError, 'does not fit SlimmableResNet_CIFAR'),
        (
            'classifier',
            CLASSIFIER,
            ['--width', 0.5, '--cfg-options', 'model.head.type=LinearClsHead'],
            ValueError,
            'model.head was trained at full width.*--width 0.5.*SlimmableLinearClsHead',
        ),
        (
            'pretrain',
            PRETRAIN,
            ['--width', 0.5, '--cfg-options', 'model.backbone.type=ResNet'],
            ValueError,
            'Name a backbone of us3l_mm',
        ),
        (
            'pretrain',
            PRETRAIN,
            ['--width', 0.5, '--cfg-options', 'model.backbone.type=ResNot'],
            ValueError,
            "no model of type 'ResNot'",
        ),
        (
            'pretrain',
            'configs/_base_/schedules/sgd_cosine.py',
            ['--width', 0.5],
            ValueError,
            'no model with a backbone',
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(run_tool, folder, name, config, args, error, message):
    with pytest.raises(error, match=message):
        export_width(run_tool, folder, name, config, '--format', 'dense', *args)


def test_checkpoint_of_something_else_is_refused(run_tool, folder, tmp_path):
    torch.save({'state_dict': {'conv1.weight': torch.zeros(1)}}, tmp_path / 'x.pth')
    with pytest.raises(RuntimeError, match='does not fit SlimmableResNet_CIFAR of depth 18: 59 parameters missing'):
        export_width(run_tool, tmp_path, 'x', PRETRAIN, '--width', 0.5, '--format', 'dense')


@pytest.mark.parametrize(
    ('name', 'config', 'told', 'size'),
    [('pretrain', PRETRAIN, None, 16), ('pretrain', PRETRAIN, 24, 24), ('detector', DETECTOR, None, 64)],
)
def test_size_of_images_comes_from_checkpoint_or_config_and_stays_with_the_export(
    run_tool, folder, tmp_path, name, config, told, size
):
    state = torch.load(folder / f'{name}.pth')
    if told:
        state['meta']['input_size'] = (told, told)
    torch.save(state, tmp_path / 'net.pth')
    dense = tmp_path / 'dense'
    export_width(run_tool, tmp_path, 'net', config, '--width', 0.5, '--format', 'dense', '--out', dense)
    for source, given, out in ((tmp_path / 'net.pth', config, 'a'), (f'{dense}.pth', f'{dense}.py', 'b')):
        run_tool('export_width', given, source, '--width', 0.5, '--format', 'torch-export', '--out', tmp_path / out)
        extra = {'us3l_mm.json': ''}
        torch.export.load(tmp_path / f'{out}.pt2', extra_files=extra)
        assert json.loads(extra['us3l_mm.json'])['input'] == [3, size, size]


def test_framework_without_that_backbone_is_refused(run_tool, folder):
    with pytest.raises(ValueError, match='mmdet has no backbone ResNet_CIFAR'):
        export_width(
            run_tool, folder, 'pretrain', PRETRAIN, '--width', 0.5, '--format', 'stock', '--framework', 'mmdet'
        )


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--width', '1.5', '--format', 'dense'], 'width must be in'),
        (['--width', 'half', '--format', 'dense'], 'argument --width'),
        (['--width', '0.5'], 'required: --format'),
        (['--width', '0.5', '--format', 'tflite'], 'invalid choice'),
        (['--width', '0.5', '--format', 'dense', '--input', '224'], '--input goes with'),
        (['--width', '0.5', '--format', 'dense', '--framework', 'mmdet'], '--framework goes with --format stock'),
    ],
)
def test_mistyped_arguments_get_a_message(run_tool, folder, capsys, args, message):
    with pytest.raises(SystemExit):
        export_width(run_tool, folder, 'pretrain', PRETRAIN, *args)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('sizes', [['1', '2', '3'], ['0']])
def test_no_image_size(run_tool, folder, sizes, capsys):
    options = ('--width', 0.5, '--format', 'torch-export', '--input', *sizes)
    with pytest.raises((ValueError, SystemExit)) as caught:
        export_width(run_tool, folder, 'pretrain', PRETRAIN, *options)
    told = f'{caught.value}{capsys.readouterr().err}'
    assert (
        '--input takes a side, or a height and a width' in told or '--input: it must be a whole number from 1' in told
    )


def test_missing_file_gets_a_message(run_tool, folder, capsys):
    with pytest.raises(SystemExit):
        run_tool('export_width', PRETRAIN, folder / 'nothing.pth', '--width', 0.5, '--format', 'dense')
    assert 'no such file' in capsys.readouterr().err
