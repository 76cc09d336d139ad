"""tools/analysis_tools/analyze_widths.py and tools/analysis_tools/choose_width.py on tiny nets."""

import json
import shlex

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from builders import ROOT
from us3l_mm.config import load_config
from us3l_mm.deploy import costs
from us3l_mm.deploy.costs import width_complexity
from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import calibrate_bn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'
DETECTOR = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
ALL_WIDTHS = 'configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py'
NET = dict(depth=18, stem_channels=16, base_channels=16)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Checkpoints of the pretraining config, with and without statistics."""
    folder = tmp_path_factory.mktemp('costs')
    for name, widths in (('raw', ()), ('calibrated', (1.0, 0.75, 0.3))):
        net = SlimmableResNet_CIFAR(**NET)
        if widths:
            calibrate_bn(net, widths, [torch.randn(2, 3, 16, 16)])
        torch.save({'state_dict': {f'backbone.{k}': v for k, v in net.state_dict().items()}}, folder / f'{name}.pth')
    (folder / 'probe.json').write_text(json.dumps(dict(widths=[dict(width=1.0, top1=60), dict(width=0.75, top1=55)])))
    return folder


@pytest.fixture
def fake_time(monkeypatch):
    """Latency of 10 ms more with each net that is measured; gives what was asked for, warm-up and repeats."""
    asked = []

    def latency(run, warmup, repeats, **_):
        asked.append((warmup, repeats))
        run()
        return dict(latency_ms=10.0 * len(asked), latency_p10_ms=9.0 * len(asked), latency_p90_ms=11.0 * len(asked))

    monkeypatch.setattr(costs, 'measure_latency', latency)
    return asked


def read(out):
    return json.loads(out.with_name(f'{out.name}.json').read_text())


def is_png(path):
    return path.read_bytes().startswith(b'\x89PNG')


def test_costs_of_a_pretraining_are_those_of_its_backbone(run_tool, tmp_path, capsys):
    args = ['--widths', 0.3, 1.0, '--input', 16, '--no-latency', '--out', tmp_path / 'a']
    run_tool('analyze_widths', PRETRAIN, *args)
    rows, net = read(tmp_path / 'a')['widths'], MODELS.build(dict(type='us3l_mm.SlimmableResNet_CIFAR', **NET))
    assert [row['width'] for row in rows] == [1.0, 0.3]
    for row in rows:
        expected = width_complexity(net, row['width'], (16, 16))
        assert (row['params'], row['macs']) == (expected['params'], expected['macs']) and row['size'] == [16, 16]
        assert row['activation_bytes'] > 0 and 'latency_ms' not in row
    assert is_png(tmp_path / 'a.png')
    table = (tmp_path / 'a.md').read_text()
    assert table in capsys.readouterr().out and '| 0.3 | 16 x 16 |' in table and 'latency' not in table


def test_costs_of_a_detector_are_those_of_backbone_and_neck(run_tool, tmp_path, fake_time):
    args = ['--widths', 1.0, 0.5, '--input', 32, 48, '--warmup', 3, '--repeats', 4, '--out', tmp_path / 'a']
    run_tool('analyze_widths', DETECTOR, *args)
    wide, narrow = read(tmp_path / 'a')['widths']
    for row, channels in ((wide, [64, 128]), (narrow, [32, 64])):
        backbone = MODELS.build(
            dict(type='us3l_mm.SlimmableResNet_CIFAR', width=row['width'], out_indices=(2, 3), **NET)
        )
        neck = MODELS.build(dict(type='mmdet.FPN', in_channels=channels, out_channels=32, num_outs=2))
        assert row['params'] == sum(p.numel() for part in (backbone, neck) for p in part.parameters())
    assert (wide['latency_ms'], narrow['latency_ms']) == (10.0, 20.0) and fake_time == [(3, 4)] * 2
    assert '9.00-11.00' in (tmp_path / 'a.md').read_text()


def test_widest_width_within_the_macs_is_chosen_among_the_calibrated_ones(run_tool, folder, tmp_path, capsys):
    budget = width_complexity(SlimmableResNet_CIFAR(**NET), 0.75, (16, 16))['macs']
    args = ['--max-macs', budget, '--input', 16, '--probe', folder / 'probe.json', '--out', tmp_path / 'c']
    run_tool('choose_width', PRETRAIN, folder / 'calibrated.pth', *args)
    report = read(tmp_path / 'c')
    assert report['chosen'] == 0.75 and report['budgets'] == dict(macs=budget)
    rows = report['widths']
    assert [(row['width'], row['fits'], row['accuracy']) for row in rows] == [
        (1, False, 60),
        (0.75, True, 55),
        (0.3, True, None),
    ]
    said = capsys.readouterr().out
    assert 'chosen: width 0.75' in said and '--width 0.75 --format onnx' in said
    assert '| 0.3 | 16 x 16 |' in said and '| – | yes |' in said
    assert is_png(tmp_path / 'c.png')


def next_command(said):
    """Words of the command that a tool says is next."""
    return shlex.split(said.split('Next: ')[1].splitlines()[0])


@pytest.mark.parametrize(
    ('told', 'given', 'size'),
    [
        ({}, [], [16, 16]),  # by the config
        (dict(input_size=(24, 24)), [], [24, 24]),  # by the checkpoint, of a training with other options
        (dict(input_size=(24, 24)), ['--input', 32, 40], [32, 40]),
    ],
)
def test_next_command_exports_for_the_images_of_the_choice(run_tool, folder, tmp_path, capsys, told, given, size):
    checkpoint = tmp_path / 'with space.pth'
    torch.save({**torch.load(folder / 'calibrated.pth'), 'meta': told}, checkpoint)
    options = ['--cfg-options', 'model.data_preprocessor.mean=[1,2,3]', 'train_cfg.max_epochs=3']
    run_tool('choose_width', PRETRAIN, checkpoint, '--max-params', '1M', *given, *options, '--out', tmp_path / 'c')
    chosen = read(tmp_path / 'c')['widths'][0]
    net = SlimmableResNet_CIFAR(**NET)
    assert chosen['size'] == size and chosen['macs'] == width_complexity(net, 1.0, tuple(size))['macs']
    us3l, tool, *words = next_command(capsys.readouterr().out)
    assert (us3l, tool) == ('us3l', 'export') and words[-3:] == options
    words[words.index('onnx')] = 'torch-export'
    run_tool('export_width', *words, '--out', tmp_path / 'net')
    about = {'us3l_mm.json': ''}
    torch.export.load(tmp_path / 'net.pt2', extra_files=about)
    about = json.loads(about['us3l_mm.json'])
    assert about['input'] == [3, *size] and about['preprocessing']['mean'] == [1, 2, 3]


@pytest.fixture(scope='module')
def probe(tmp_path_factory):
    """Checkpoint of a probe at two of the widths that its backbone is calibrated for."""
    cfg = load_config(PROBE, {'model.widths': [0.75, 0.3], 'model.backbone.init_cfg': None})
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    calibrate_bn(model.backbone, [1.0, 0.75, 0.5, 0.3], [torch.randn(2, 3, 16, 16)])
    path = tmp_path_factory.mktemp('probe') / 'epoch_1.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path


def test_candidates_of_a_probe_are_the_probed_widths(run_tool, probe, tmp_path):
    run_tool('choose_width', PROBE, probe, '--max-macs', '1G', '--out', tmp_path / 'c')
    assert [row['width'] for row in read(tmp_path / 'c')['widths']] == [0.75, 0.3]


def test_costs_of_a_probe_are_counted_at_any_width(run_tool, tmp_path):
    run_tool('analyze_widths', PROBE, '--widths', 0.9, '--no-latency', '--out', tmp_path / 'a')
    assert [(row['width'], row['size']) for row in read(tmp_path / 'a')['widths']] == [(0.9, [16, 16])]


def test_pretraining_with_the_config_of_a_probe_is_refused(run_tool, folder):
    for widths in ([], ['--widths', 0.75]):
        with pytest.raises(RuntimeError, match='calibrated.pth has no head of a linear probe: give a checkpoint that'):
            run_tool('choose_width', PROBE, folder / 'calibrated.pth', '--max-macs', '1G', *widths)


def test_size_that_nothing_tells_has_to_be_given(run_tool, folder, tmp_path):
    (tmp_path / 'bare.py').write_text(f"_base_ = '{ROOT / PRETRAIN}'\ntrain_dataloader = None\n")
    with pytest.raises(ValueError, match='neither the checkpoint nor the config tells the size of images: give --in'):
        run_tool('choose_width', tmp_path / 'bare.py', folder / 'calibrated.pth', '--max-macs', '1G')


def test_width_of_a_detector_for_all_widths_is_chosen(run_tool, tmp_path, capsys):
    cfg = load_config(ALL_WIDTHS, {'model.backbone.init_cfg': None})
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    calibrate_bn(model.slimmable_part(), [1.0, 0.5], [torch.randn(2, 3, 32, 32)])
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'net.pth')
    size = ['--input', 32, 48]
    run_tool('analyze_widths', ALL_WIDTHS, '--widths', 0.5, '--no-latency', *size, '--out', tmp_path / 'a')
    (narrow,), dense = read(tmp_path / 'a')['widths'], model.dense(0.5)
    assert narrow['params'] == sum(p.numel() for part in (dense.backbone, dense.neck) for p in part.parameters())
    budget = ['--max-macs', narrow['macs'], *size]
    run_tool('choose_width', ALL_WIDTHS, tmp_path / 'net.pth', *budget, '--out', tmp_path / 'c')
    assert read(tmp_path / 'c')['chosen'] == 0.5 and [row['width'] for row in read(tmp_path / 'c')['widths']] == [
        1,
        0.5,
    ]


def test_latency_budget_is_measured(run_tool, folder, tmp_path, fake_time):
    args = ['--max-latency-ms', 25, '--max-params', '1M', '--widths', 0.3, 0.75, 1.0, '--input', 16]
    run_tool('choose_width', PRETRAIN, folder / 'calibrated.pth', *args, '--out', tmp_path / 'c')
    report = read(tmp_path / 'c')
    assert [row['latency_ms'] for row in report['widths']] == [10, 20, 30]  # from the widest
    assert report['chosen'] == 1.0 and [row['fits'] for row in report['widths']] == [True, True, False]
    assert fake_time == [(10, 50)] * 3 and is_png(tmp_path / 'c.png')


def test_no_width_within_the_budget_is_a_failure_with_the_table(run_tool, folder, tmp_path, capsys):
    args = ['--max-params', '1k', '--input', 16, '--out', tmp_path / 'c']
    with pytest.raises(SystemExit, match='no width is within the budget; the least there is: params'):
        run_tool('choose_width', PRETRAIN, folder / 'calibrated.pth', *args)
    assert '| 0.75 |' in capsys.readouterr().out and read(tmp_path / 'c')['chosen'] is None


@pytest.mark.parametrize(
    ('name', 'config', 'args', 'error', 'message'),
    [
        ('raw', PRETRAIN, [], RuntimeError, 'Measure them with `us3l calibrate configs'),
        ('calibrated', PRETRAIN, ['--widths', 0.5], RuntimeError, 'us3l calibrate CONFIG CHECKPOINT --widths 0.5'),
        ('calibrated', DETECTOR, [], ValueError, 'fixes the width at 1, so there is nothing to choose'),
    ],
)
def test_widths_that_cannot_be_chosen_are_refused(run_tool, folder, name, config, args, error, message):
    with pytest.raises(error, match=message):
        run_tool('choose_width', config, folder / f'{name}.pth', '--max-macs', '1G', '--input', 16, *args)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'give a budget: --max-macs, --max-params, --max-latency-ms'),
        (['--max-macs', '1GB'], 'give a number above zero'),
        (['--max-macs', '1G', '--widths', '2'], 'width must be in'),
        (['--max-macs', '1G', '--widths', 'layer3=0.5'], 'needs one width for all parts'),
        (['--max-macs', '1G', '--probe', 'nothing.json'], 'nothing.json'),
        (['--max-macs', '1G', '--batch', '0'], '--batch: it must be a whole number from 1, got 0'),
        (['--max-macs', '1G', '--threads', '0'], '--threads: it must be a whole number from 1, got 0'),
        (['--max-latency-ms', '5', '--repeats', '0'], '--repeats: it must be a whole number from 1, got 0'),
        (['--max-latency-ms', '5', '--device', 'tpu'], 'invalid choice'),
    ],
)
def test_mistyped_arguments_get_a_message(run_tool, folder, capsys, args, message):
    with pytest.raises(SystemExit):
        run_tool('choose_width', PRETRAIN, folder / 'calibrated.pth', *args)
    assert message in capsys.readouterr().err


def test_missing_gpu_and_files_get_a_message(run_tool, folder, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    checkpoint = folder / 'calibrated.pth'
    for args, message in (
        ((PRETRAIN, checkpoint, '--max-latency-ms', 5, '--device', 'cuda'), 'torch finds no GPU here'),
        ((PRETRAIN, 'nothing.pth', '--max-macs', '1G'), 'no such file: nothing.pth'),
    ):
        with pytest.raises(SystemExit):
            run_tool('choose_width', *args)
        assert message in capsys.readouterr().err
