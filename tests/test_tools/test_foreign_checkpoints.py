"""Files from everywhere, by each of the four ways in: init_cfg, load_from, calibrate_bn and export_width."""

import argparse
import copy
import logging

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.config import load_config
from us3l_mm.engine import ResumableRunner
from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import calibrate_bn, to_dense

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

CONFIG = 'configs/digits/r18_1xb64-16e_digits.py'
NET = dict(depth=18, stem_channels=16, base_channels=16, num_stages=2, strides=(1, 2), dilations=(1, 1))
OPTIONS = {
    'model.backbone.num_stages': 2,
    'model.backbone.strides': (1, 2),
    'model.backbone.dilations': (1, 1),
    'model.backbone.out_indices': (1,),
    'model.neck.in_channels': 32,
    'model.neck.hid_channels': 32,
    'model.distill_predictor.hid_channels': 32,
    'train_dataloader.batch_size': 4,
}
CFG_OPTIONS = ['--cfg-options', *(f'{key}={value}'.replace(' ', '') for key, value in OPTIONS.items())]


def make_net(seed):
    """Calibrated backbone of random weights."""
    torch.manual_seed(seed)
    net = SlimmableResNet_CIFAR(**NET, out_indices=(1,))
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    calibrate_bn(net, [1.0, 0.5], [torch.randn(4, 3, 16, 16)])
    return net.eval()


@pytest.fixture(scope='module')
def nets():
    """The one that is to be found, and another of the same shape."""
    with torch.random.fork_rng():
        return make_net(1), make_net(2)


def under(prefix, net):
    return {prefix + key: value for key, value in net.state_dict().items()}


def whole(prefix, net, other):
    """Checkpoint of a pretraining: the net and, as its teacher, the other one, with a neck each."""
    cfg = load_config(CONFIG, OPTIONS)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.backbone.load_state_dict(net.state_dict())
    model.teacher.backbone.load_state_dict(other.state_dict())
    return under(prefix, model)


def dino(net, other):
    trained = copy.deepcopy(other)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)
    trained(torch.randn(2, 3, 16, 16))[0].sum().backward()
    optimizer.step()
    return dict(
        student={**under('module.backbone.', other), 'module.head.mlp.0.weight': torch.ones(2, 2)},
        teacher={**under('backbone.', net), 'head.mlp.0.weight': torch.ones(2, 2)},
        optimizer=optimizer.state_dict(),
        epoch=3,
        args=argparse.Namespace(arch='resnet18', lr=0.1, crops=[0.4, 1.0], output_dir=None),
        dino_loss=dict(center=torch.zeros(1, 2)),
    )


# For each kind, its prefix and its content, of the net to find and of the other.
KINDS = {
    'bare, torchvision': ('', lambda net, other: {**under('', net), 'fc.weight': torch.ones(10, 32)}),
    'ours': ('backbone.', lambda net, other: whole('', net, other)),
    'ours of DDP': (
        'module.backbone.',
        lambda net, other: dict(state_dict=whole('module.', net, other), meta=dict(epoch=1)),
    ),
    'DDP': ('module.', lambda net, other: dict(state_dict=under('module.', net))),
    'Lightning': ('model.backbone.', lambda net, other: dict(state_dict=under('model.backbone.', net), epoch=1)),
    'encoder': ('encoder.', lambda net, other: under('encoder.', net)),
    'MoCo': (
        'module.encoder_q.',
        lambda net, other: dict(
            state_dict={
                **under('module.encoder_k.', other),
                **under('module.encoder_q.', net),
                'module.encoder_q.fc.weight': torch.ones(10, 32),
                'module.queue': torch.ones(2, 2),
            },
            arch='resnet18',
        ),
    ),
    'DINO': ('teacher.backbone.', dino),
    'torch.compile': ('_orig_mod.', lambda net, other: dict(model=under('_orig_mod.', net))),
    'safetensors': ('model.', lambda net, other: under('model.', net)),
}
PREFIXES = {name: prefix for name, (prefix, _) in KINDS.items()} | {'torch.compile': 'model._orig_mod.'}


@pytest.fixture(scope='module')
def files(tmp_path_factory, nets):
    folder = tmp_path_factory.mktemp('files')
    for name, (_, content) in KINDS.items():
        path = folder / f'{name.replace(", ", "-").replace(" ", "-")}.pth'
        if name == 'safetensors':
            from safetensors.torch import save_file

            save_file(content(*nets), path.with_suffix('.safetensors'))
        else:
            torch.save(content(*nets), path)
    return folder


def file_of(files, kind):
    (path,) = files.glob(f'{kind.replace(", ", "-").replace(" ", "-")}.*')
    return path


def read(path):
    return torch.load(path, weights_only=True)['state_dict']


def by_init_cfg(path, run_tool, tmp_path):
    net = SlimmableResNet_CIFAR(
        **NET, out_indices=(1,), width=0.5, init_cfg=dict(type='Pretrained', checkpoint=str(path))
    )
    net.init_weights()
    return net.state_dict(), 0.5


def by_load_from(path, run_tool, tmp_path):
    cfg = load_config(CONFIG, {**OPTIONS, 'load_from': str(path)}, str(tmp_path))
    cfg.custom_hooks = [
        dict(type='us3l_mm.CheckLoadedHook', allow_missing=True)
    ]  # of neck and head; never of the backbone
    runner = ResumableRunner.from_cfg(cfg)
    runner.load_or_resume()
    return runner.model.backbone.state_dict(), None


def by_calibration(path, run_tool, tmp_path):
    out = tmp_path / 'calibrated.pth'
    run_tool('calibrate_bn', CONFIG, path, '--out', out, '--widths', 0.5, '--num-batches', 1, *CFG_OPTIONS)
    state = {key.removeprefix('backbone.'): value for key, value in read(out).items() if key.startswith('backbone.')}
    return {key: value for key, value in state.items() if not ('running' in key or 'batches' in key)}, None


def by_export(path, run_tool, tmp_path):
    run_tool(
        'export_width',
        *(CONFIG, path, '--width', 0.5, '--format', 'dense', '--out', tmp_path / 'out', *CFG_OPTIONS),
    )
    return {key.removeprefix('backbone.'): value for key, value in read(tmp_path / 'out.pth').items()}, 0.5


WAYS = [by_init_cfg, by_load_from, by_calibration, by_export]


@pytest.fixture
def lines(monkeypatch):
    found = []

    def keep(text, logger):
        if logger != 'silent':
            found.append(text)

    monkeypatch.setattr('us3l_mm.utils.match_checkpoint.print_log', keep)
    return found


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('kind', KINDS)
def test_every_file_gives_the_same_weights_by_every_way(kind, way, files, nets, run_tool, tmp_path, lines):
    path = file_of(files, kind)
    got, width = way(path, run_tool, tmp_path)
    expected = (nets[0] if width is None else to_dense(nets[0], width)).state_dict()
    assert got.keys() >= {key for key, _ in nets[0].named_parameters()}
    assert all(torch.equal(value, expected[key]) for key, value in got.items())
    (line,) = lines
    assert line.startswith(f'{path}, prefix ') and 'tensors of ' in line
    whole = PREFIXES[kind].removesuffix('backbone.')  # where a model takes more than its backbone
    assert line.split(', prefix ')[1].split("'")[1] in (PREFIXES[kind], whole)


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('kind', ['MoCo', 'DINO', 'ours of DDP', 'bare, torchvision'])
def test_a_layer_that_is_missing_is_an_error_by_every_way(kind, way, nets, run_tool, tmp_path):
    file = KINDS[kind][1](*nets)
    file.pop('student', None)
    holder = file.get('state_dict', file.get('teacher', file))
    for lost in [key for key in holder if key.endswith('layer1.1.conv2.weight')]:  # of the other copy, too
        del holder[lost]
    torch.save(file, tmp_path / 'part.pth')
    with pytest.raises(RuntimeError, match=r'layer1\.1\.conv2\.weight'):
        way(tmp_path / 'part.pth', run_tool, tmp_path)


@pytest.mark.parametrize('way', WAYS)
def test_a_file_without_the_backbone_is_an_error_by_every_way(way, run_tool, tmp_path):
    torch.save(dict(state_dict={'model.stem.0.weight': torch.ones(3, 3)}), tmp_path / 'other.pth')
    with pytest.raises(RuntimeError, match=r'other\.pth has none of the \d+ keys of \w+: it has '):
        way(tmp_path / 'other.pth', run_tool, tmp_path)


def test_calibration_takes_the_copy_that_is_named(nets, run_tool, tmp_path):
    torch.save(dict(model=under('', nets[0]), model_ema=under('module.', nets[1])), tmp_path / 'two.pth')
    tool = ['calibrate_bn', CONFIG, tmp_path / 'two.pth', '--widths', 0.5, '--num-batches', 1]
    with pytest.raises(RuntimeError, match="'model.'; 'model_ema.module.'.*--prefix of `us3l calibrate`"):
        run_tool(*tool, *CFG_OPTIONS)
    run_tool(*tool, '--prefix', 'model_ema.module.', *CFG_OPTIONS)
    state = read(tmp_path / 'two_calibrated.pth')
    assert {key.split('.')[0] for key in state} == {'backbone'}  # nothing random is saved
    assert all(torch.equal(state[f'backbone.{key}'], value) for key, value in nets[1].named_parameters())


def test_calibration_refuses_a_file_with_half_of_a_neck(nets, run_tool, tmp_path):
    state = whole('', *nets)
    (lost, *_) = [key for key in state if key.startswith('neck.')]
    del state[lost]
    torch.save(state, tmp_path / 'half.pth')
    with pytest.raises(RuntimeError, match=f'half.pth lacks 1 parts of US3L: {lost}'):
        run_tool('calibrate_bn', CONFIG, tmp_path / 'half.pth', '--widths', 0.5, *CFG_OPTIONS)


def test_training_logs_one_line_of_what_it_loaded(files, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        by_load_from(file_of(files, 'ours of DDP'), None, tmp_path)
    (log,) = tmp_path.glob('*/*.log')
    found = [line for line in log.read_text().splitlines() if ', prefix ' in line]
    assert len(found) == 1 and "ours-of-DDP.pth, prefix 'module.': " in found[0]
