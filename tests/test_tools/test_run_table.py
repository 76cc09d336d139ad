"""Tables of the paper: every case has the options that the paper states, and a table goes on where it was cut off."""

import argparse
import fcntl
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from builders import ROOT, load_script
from us3l_mm.config import read_config
from us3l_mm.utils import jobs

tool = load_script('run_table')
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

TABLES = ('methods', 'small', 'ablation', 'epochs', 'sampling-regularisation', 'sandwich-dynamic')
# Base loss, distillation loss, auxiliary head, momentum for the base network, momentum for sub-networks: the paper's.
ABLATION = """
 1 MSE -   no  no  no
 2 MSE MSE no  no  no
 3 MSE MSE no  yes yes
 4 MSE MSE yes yes yes
 5 MSE NCE no  no  no
 6 MSE NCE no  no  yes
 7 MSE NCE no  yes yes
 8 MSE NCE yes yes yes
 9 NCE -   no  no  no
10 NCE MSE no  no  no
11 NCE MSE no  no  yes
12 NCE MSE no  yes yes
13 NCE MSE yes yes yes
14 NCE NCE no  no  no
15 NCE NCE no  no  yes
16 NCE NCE no  yes yes
17 NCE NCE yes yes yes
"""
LOSSES = {'MSE': 'CosineSimilarityLoss', 'NCE': 'NTXentLoss', '-': 'NoneType'}


def options(dataset='digits', **given):
    names = ('widths', 'epochs', 'probe_epochs', 'cfg_options', 'probe_options', 'seeds')
    return argparse.Namespace(**{**dict.fromkeys(names), 'dataset': dataset, 'gpus': 1, **given})


def configs(table, case, width=None, **given):
    table = tool.load_table(table)
    return tool.case_configs(table, table.cases[case], options(**given), width)


def test_the_tables_are_there():
    assert sorted(path.stem for path in (ROOT / 'configs/tables').glob('[!_]*.py')) == sorted(TABLES)
    assert list(tool.load_table('ablation').cases) == [line.split()[0] for line in ABLATION.split('\n')[1:-1]]


@pytest.mark.parametrize('row', ABLATION.split('\n')[1:-1])
def test_ablation_case_is_the_papers(row, mmpretrain_scope, no_random_weights):
    case, base, distill, head, base_momentum, sub_momentum = row.split()
    model = MODELS.build(configs('ablation', case)['pretrain'].model)
    targets = {'no': 'online', 'yes': 'momentum'}
    assert type(model.head.loss_module).__name__ == LOSSES[base]
    assert type(model.head.predictor).__name__ == {'MSE': 'NonLinearNeck', 'NCE': 'Identity'}[base]
    assert type(model.distill_loss).__name__ == LOSSES[distill]
    assert (model.distill_predictor is not None) == (head == 'yes')
    assert (model.base_target, model.sub_target) == (targets[base_momentum], targets[sub_momentum])
    assert (model.teacher is not None) == ('yes' in (base_momentum, sub_momentum))
    assert (model.sampler.dynamic, model.sampler.sandwich, model.group_reg) == (False, True, None)
    last = [layer for layer in model.neck.modules() if isinstance(layer, torch.nn.BatchNorm1d)][2:]
    simsiam = (base, base_momentum) == ('MSE', 'no')  # its projector ends in a batch norm without affine parameters
    assert [layer.affine for layer in last] == ([False] if simsiam else [])


@pytest.mark.parametrize('row', ABLATION.split('\n')[1:-1])
def test_ablation_case_has_the_recipe_of_its_base_loss(row):
    case, base = row.split()[:2]
    cfg = configs('ablation', case, dataset='cifar100')['pretrain']
    optimizer = {'MSE': dict(lr=0.05, weight_decay=5e-4), 'NCE': dict(lr=0.5, weight_decay=1e-4)}[base]
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', momentum=0.9, **optimizer)
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[0].T_max == 400
    assert cfg.model.neck.out_channels == {'MSE': 2048, 'NCE': 256}[base]
    heads = [cfg.model.head.predictor, cfg.model.distill_predictor]
    for head in heads[base == 'NCE' :]:
        if head is not None:
            assert head.in_channels == head.out_channels == cfg.model.neck.out_channels
            assert head.hid_channels == 2048 and head.num_layers == 2


@pytest.mark.usefixtures('mmpretrain_scope', 'no_random_weights')
@pytest.mark.parametrize(
    ('table', 'case', 'dynamic', 'sandwich', 'group'),
    [
        ('sampling-regularisation', 'mbv2', False, True, False),
        ('sampling-regularisation', 'mbv2-both', True, True, True),
        ('sampling-regularisation', 'r18', False, True, False),
        ('sampling-regularisation', 'r18-dynamic', True, True, False),
        ('sampling-regularisation', 'r18-group', False, True, True),
        ('sampling-regularisation', 'r18-both', True, True, True),
        ('sandwich-dynamic', 'neither', False, False, False),
        ('sandwich-dynamic', 'dynamic', True, False, False),
        ('sandwich-dynamic', 'sandwich', False, True, False),
        ('sandwich-dynamic', 'both', True, True, False),
        ('epochs', 'r18-400', True, True, True),
        ('epochs', 'r18-800', True, True, True),
    ],
)
def test_other_cases_vary_sampling_and_regularisation_alone(
    table, case, dynamic, sandwich, group, mmpretrain_scope, no_random_weights
):
    cfg = configs(table, case)['pretrain']
    model = MODELS.build(cfg.model)
    assert (model.sampler.dynamic, model.sampler.sandwich) == (dynamic, sandwich)
    assert (model.group_reg is not None) == group
    assert cfg.optim_wrapper.optimizer.weight_decay == (0 if group else 1e-4)
    if group:
        assert model.group_reg.coefficient == 5e-5
    same = configs('ablation', '13')['pretrain'].model
    for key in ('head', 'distill_loss', 'distill_predictor', 'base_target', 'sub_target', 'momentum', 'update'):
        assert cfg.model[key] == same[key], key


METHODS = {  # type of the model, epochs, whether one run trains one width
    'simclr': ('SimCLR', 400, True),
    'simsiam': ('SimSiam', 400, True),
    'byol': ('BYOL', 400, True),
    'seed': ('SEED', 200, True),
    'seed-mse': ('SEED', 400, True),
    'us-simclr': ('US3L', 400, False),
    'us-simsiam': ('US3L', 400, False),
    'us3l': ('US3L', 400, False),
}
BACKBONES = {'r18': ('SlimmableResNet_CIFAR', 18), 'r50': ('SlimmableResNet_CIFAR', 50)}


@pytest.mark.parametrize('case', tool.load_table('methods').cases)
def test_case_of_the_methods_table_trains_that_method_and_backbone(case, mmpretrain_scope, no_random_weights):
    backbone, method = case.split('-', 1)
    kind, epochs, individual = METHODS[method]
    width = 0.25 if individual else None
    cfg = configs('methods', case, dataset='cifar100', width=width)['pretrain']
    assert cfg.train_cfg.max_epochs == epochs
    model = MODELS.build(cfg.model)
    assert type(model).__name__ == kind and model.backbone.width == width
    found = (type(model.backbone).__name__, getattr(model.backbone, 'depth', None))
    assert found == BACKBONES.get(backbone, ('SlimmableMobileNetV2_CIFAR', None))
    if individual:
        assert model.neck.fc0.in_features == model.backbone.out_channels[-1]


@pytest.mark.parametrize('case', [f'r18-{method}' for method in METHODS])
def test_methods_table_runs_on_digits_too(case, mmpretrain_scope, no_random_weights):
    model = MODELS.build(configs('methods', case)['pretrain'].model)
    assert model.neck.fc0.in_features == 128


@pytest.mark.parametrize('backbone', ['r18_4xb128', 'r50_8xb64'])
@pytest.mark.parametrize('epochs', [400, 800])
def test_cases_of_the_epochs_table_are_the_configs_of_that_length(backbone, epochs):
    ours = configs('epochs', f'{backbone[:3]}-{epochs}', dataset='cifar100')['pretrain']
    path = f'configs/us3l/{backbone}-{epochs}e_cifar100.py'
    written = read_config(ROOT / path)
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
        assert ours[key] == written[key], key


@pytest.mark.parametrize('name', TABLES)
def test_published_rows_have_a_value_for_each_published_width(name):
    table = tool.load_table(name)
    if name == 'small':
        assert 'published_from' not in table and not any('published' in case for case in table.cases.values())
        return
    for case in table.cases.values():
        values = case.published.split()
        assert len(values) == len(table.published_widths)
        assert all(value in '-.' or 50 < float(value) < 75 for value in values)


def test_epochs_scale_the_schedules():
    found = configs('ablation', '13', dataset='cifar100', epochs=40, probe_epochs=10)
    assert found['pretrain'].train_cfg.max_epochs == found['pretrain'].param_scheduler[0].T_max == 40
    assert found['pretrain'].default_hooks.checkpoint.interval == 5
    assert found['probe'].param_scheduler[0].milestones == [6, 8]  # 60 and 80 of 100
    assert found['probe'].train_cfg.max_epochs == found['probe'].train_cfg.val_interval == 10


# The logic of a table, with commands that only leave the files of a real one.

TINY = """
bases = dict(
    us3l=dict(digits='configs/digits/r18_1xb64-16e_digits.py'),
    byol=dict(digits='configs/digits/byol_r18_1xb64-2e_digits.py'),
)
probes = dict(digits='configs/digits/r18_1xb128-20e_digits.py')
epochs = probe_epochs = {}
title = 'A table'
published_from = dict(data='CIFAR-100', name='somewhere', source='a page')
published_widths = [1.0, 0.5, 0.25]
cases = dict(
    a=dict(what='first', base='us3l', published='71.5 - .'),
    b=dict(what='second', base='us3l', changes=dict(model=dict(distill_predictor=None))),
)
"""


class Commands:
    """Stands for ``subprocess.Popen``: keeps the commands, leaves their files, fails where told."""

    def __init__(self):
        self.done = []
        self.fails = {}

    def __call__(self, command, env, pass_fds):
        step = next(Path(part).stem for part in command if '/tools/' in f'/{part}')
        config = next(Path(part) for part in command if Path(part).name in ('pretrain.py', 'probe.py'))
        case = str(config.parent).split('/table/')[1]
        self.done.append((case, step.removeprefix('dist_')))
        self.last = command
        failure = self.fails.pop((case, self.done[-1][1]), None)
        if failure is KeyboardInterrupt:
            raise failure
        if failure is not None:
            return SimpleNamespace(wait=lambda: failure)
        value = {name: command[command.index(name) + 1] for name in ('--work-dir', '--out') if name in command}
        cfg = Config.fromfile(config)
        if step in ('train', 'dist_train'):
            save_checkpoint(Path(value['--work-dir']), cfg.train_cfg.max_epochs)
        elif step == 'calibrate_bn':
            Path(value['--out']).touch()
        else:
            off = sum(0.5 * int(part[4:]) for part in config.parts if re.fullmatch(r'seed\d', part))
            rows = [dict(width=w, top1=100 * w - 0.125 - off, macs=int(1e6 * w * w)) for w in cfg.model.widths]
            Path(value['--work-dir']).mkdir()
            stem = {'paper': 'linear_probe', 'fast': 'fast_probe'}[command[command.index('--protocol') + 1]]
            (Path(value['--work-dir']) / f'{stem}.json').write_text(json.dumps(dict(widths=rows)))
        return SimpleNamespace(wait=lambda: 0)


def save_checkpoint(folder, epoch):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'epoch_{epoch}.pth').touch()


@pytest.fixture
def commands(monkeypatch):
    found = Commands()
    monkeypatch.setattr(jobs, 'subprocess', SimpleNamespace(Popen=found))
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a table of two cases in ``tmp_path / 'table'``."""
    (tmp_path / 'tiny.py').write_text(TINY)

    def call(*arguments, table=tmp_path / 'tiny.py'):
        where = ['--dataset', 'digits', '--work-dir', tmp_path / 'table']
        monkeypatch.setattr('sys.argv', ['run_table.py', *map(str, [table, *where, *arguments])])
        tool.main()

    return call


STEPS = ['train', 'calibrate_bn', 'linear_probe']


def test_every_case_is_pretrained_calibrated_and_probed(run, commands, tmp_path, capsys):
    run('--widths', 1, 0.5)
    assert commands.done == [(case, step) for case in 'ab' for step in STEPS]
    written = Config.fromfile(tmp_path / 'table/b/pretrain.py')
    assert written.model.distill_predictor is None
    assert written.model.neck == Config.fromfile(ROOT / 'configs/digits/r18_1xb64-16e_digits.py').model.neck
    text = capsys.readouterr().out
    assert '=== case 2 of 2 (b)' in text
    assert '$ ' in text and 'tools/train.py' in text
    assert text.count((tmp_path / 'table/table.md').read_text()) == 1
    assert (tmp_path / 'table/table.png').stat().st_size > 5000


def test_measured_and_published_stand_in_columns_of_their_own(run, commands, tmp_path):
    run()
    lines = [line for line in (tmp_path / 'table/table.md').read_text().splitlines() if line.startswith('|')]
    head, _, a, b = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    measured, published = '{}: measured', '{}: published (CIFAR-100, somewhere)'
    row = dict(zip(head, a, strict=True))
    assert [row[measured.format(width)] for width in ('1', '0.75', '0.5', '0.25')] == [
        '99.88', '74.88', '49.88', '24.88'
    ]  # fmt: skip
    assert [row[published.format(width)] for width in ('1', '0.75', '0.5', '0.25')] == ['71.5', '–', 'collapsed', '–']
    assert {value for key, value in zip(head, b, strict=True) if 'published' in key} == {'–'}
    found = json.loads((tmp_path / 'table/table.json').read_text())['a']
    assert found['measured'] == {'1': 99.875, '0.75': 74.875, '0.5': 49.875, '0.25': 24.875}
    assert found['published'] == {'1': 71.5, '0.5': None}
    assert found['runs'][0]['epochs'] == 16


def test_what_is_finished_is_skipped(run, commands, tmp_path):
    run('--cases', 'b')
    commands.done.clear()
    run()
    assert {case for case, _ in commands.done} == {'a'}
    commands.done.clear()
    run()
    assert commands.done == []


@pytest.mark.parametrize('step', STEPS)
def test_a_table_cut_off_goes_on_at_that_step(run, commands, tmp_path, step, capsys):
    commands.fails['b', step] = KeyboardInterrupt
    with pytest.raises(SystemExit, match='the same command goes on'):
        run()
    assert not (tmp_path / 'table/b/result.json').exists()
    commands.done.clear()
    run()
    assert commands.done == [('b', later) for later in STEPS[STEPS.index(step) :]]
    assert '--resume' in commands.last
    assert (tmp_path / 'table/b/result.json').exists()


@pytest.mark.parametrize(
    'changed', [['--epochs', 4], ['--gpus', 2], ['--widths', 1], ['--cfg-options', 'model.momentum=0.5']]
)
def test_other_settings_never_mix_with_what_is_there(run, commands, tmp_path, changed):
    run('--cases', 'a')
    before = (tmp_path / 'table/a/pretrain.py').read_text()
    commands.done.clear()
    with pytest.raises(SystemExit, match=r'table/a was begun with other settings(.|\n)*--work-dir'):
        run(*changed)
    assert commands.done == []  # not even the case that would be new
    assert (tmp_path / 'table/a/pretrain.py').read_text() == before


def test_a_failing_case_is_recorded_and_does_not_stop_the_others(run, commands, tmp_path, capsys):
    commands.fails['a', 'train'] = 3
    with pytest.raises(SystemExit, match='failed: a;'):
        run()
    assert commands.done == [('a', 'train'), *(('b', step) for step in STEPS)]
    assert '| a | first | failed |' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='failed: a'):
        run('--print-only')
    text = (tmp_path / 'table/table.md').read_text()
    assert 'a: train failed (exit code 3)' in text and '| b | second | 99.88 |' in text
    run()  # tried again
    assert 'failed' not in (tmp_path / 'table/table.md').read_text()


def test_training_without_a_checkpoint_is_a_failure(run, commands, capsys):
    commands.fails['a', 'train'] = 0  # and left nothing
    with pytest.raises(SystemExit, match='failed: a'):
        run('--cases', 'a')
    assert 'train left no epoch_16.pth' in capsys.readouterr().out


def test_two_processes_do_not_share_a_case(run, commands, tmp_path):
    (tmp_path / 'table/a').mkdir(parents=True)
    with open(tmp_path / 'table/a/lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match='another process is at work in .*table/a'):
            run()
    run()
    assert len(commands.done) == 6


def test_several_gpus_train_by_the_launcher(run, commands, tmp_path, monkeypatch):
    commands.fails['a', 'train'] = 1
    with pytest.raises(SystemExit):
        run('--cases', 'a', '--gpus', 4)
    config = str(tmp_path / 'table/a/pretrain.py')
    assert commands.last[0] == 'bash' and commands.last[1].endswith('tools/dist_train.sh')
    assert commands.last[2:4] == [config, '4']


def test_methods_of_fixed_width_run_once_for_each_width(run, commands, tmp_path):
    table = tmp_path / 'individual.py'
    table.write_text(TINY + "cases = dict(c=dict(what='BYOL', base='byol', per_width=True))\n")
    run('--widths', 1, 0.5, table=table)
    assert commands.done == [(f'c/w{width}', step) for width in ('1', '0.5') for step in ('train', 'linear_probe')]
    narrow = Config.fromfile(tmp_path / 'table/c/w0.5/pretrain.py').model
    assert narrow.backbone.width == 0.5 and narrow.neck.in_channels == 64
    probe = Config.fromfile(tmp_path / 'table/c/w0.5/probe.py').model
    assert probe.widths == [0.5] and probe.backbone == narrow.backbone
    assert '| c | BYOL | 99.88 | – | 49.88 | – |' in (tmp_path / 'table/table.md').read_text()


def test_several_seeds_give_mean_and_standard_deviation(run, commands, tmp_path, capsys):
    run('--cases', 'a', '--seeds', 0, 1, 3)
    assert [case for case, step in commands.done if step == 'train'] == ['a/seed0', 'a/seed1', 'a/seed3']
    written = [Config.fromfile(tmp_path / f'table/a/seed{seed}/pretrain.py') for seed in (0, 1, 3)]
    assert [cfg.randomness.seed for cfg in written] == [cfg.model.sampler.seed for cfg in written] == [0, 1, 3]
    found = json.loads((tmp_path / 'table/table.json').read_text())['a']
    values = [50 - 0.125, 50 - 0.625, 50 - 1.625]
    assert found['measured']['0.5'] == pytest.approx(np.mean(values))
    assert found['measured_std']['0.5'] == pytest.approx(np.std(values, ddof=1))
    assert found['measured_seeds']['0.5'] == 3 and found['macs']['0.5'] == 250000
    text = (tmp_path / 'table/table.md').read_text()
    assert '| 49.21 ± 0.76 |' in text and '3 seeds' in text
    commands.done.clear()
    run('--cases', 'a', '--seeds', 1, 2)  # one more: only that is run, and all four count
    assert {case for case, _ in commands.done} == {'a/seed2'}
    assert json.loads((tmp_path / 'table/table.json').read_text())['a']['measured_seeds']['0.5'] == 4


def test_a_seed_is_that_of_weights_widths_and_views():
    table = tool.load_table('small')
    for case, width in (('us3l', None), ('byol', 0.5)):
        cfg = tool.case_configs(table, table.cases[case], options('digitphotos'), width, seed=7)['pretrain']
        assert cfg.randomness.seed == cfg.model.data_preprocessor.seed == 7
        assert 'sampler' not in cfg.model or cfg.model.sampler.seed == 7


def test_a_student_is_taught_by_the_full_width_network_of_its_seed(run, commands, tmp_path):
    table = tmp_path / 'taught.py'
    table.write_text(
        TINY
        + """
bases.update(seed=dict(digits='configs/digits/seed_r18_1xb64-2e_digits.py'))
protocols = dict(digits='fast')
cases = dict(
    byol=dict(what='BYOL', base='byol', per_width=True),
    seed=dict(what='SEED', base='seed', per_width=True, teacher='byol'),
)
"""
    )
    run('--widths', 1, 0.5, '--seeds', 0, 1, table=table)
    for seed in (0, 1):
        for width in ('1', '0.5'):
            cfg = Config.fromfile(tmp_path / f'table/seed/seed{seed}/w{width}/pretrain.py')
            assert Path(cfg.model.teacher.checkpoint) == tmp_path / f'table/byol/seed{seed}/w1/pretrain/epoch_2.pth'
            assert Path(cfg.model.teacher.checkpoint).exists() and cfg.model.backbone.width == float(width)
    assert '| seed | SEED | 99.62 ± 0.35 |' in (tmp_path / 'table/table.md').read_text()


def test_a_table_without_published_numbers_has_no_columns_for_them(run, commands, tmp_path):
    table = tmp_path / 'own.py'
    table.write_text(TINY + '\ndel published_from, published_widths\n')
    run('--widths', 1, table=table)
    text = (tmp_path / 'table/table.md').read_text()
    assert 'ublished' not in text and '| a | first | 99.88 |' in text
    assert (tmp_path / 'table/table.png').stat().st_size > 5000


@pytest.mark.parametrize(
    ('table', 'arguments', 'message'),
    [
        (
            'ablaton',
            [],
            "no table 'ablaton'; there are: ablation, epochs, methods, sampling-regularisation, sandwich-dynamic, "
            'small',
        ),
        ('ablation', ['--cases', '2', '18'], "no case on digits '18'; there are: 1, 2, 3,.* 17"),
        ('epochs', ['--cases', 'r50-400'], "no case on digits 'r50-400'; there are: r18-400, r18-800"),
        ('ablation', ['--dataset', 'digit'], "no data set 'digit'; there are: cifar100, digits"),
    ],
)
def test_mistyped_names_list_what_there_is(run, commands, table, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(*arguments, table=table)


def test_printing_runs_and_writes_nothing(run, commands, tmp_path, capsys):
    run('--print-only', table='sandwich-dynamic')
    text = capsys.readouterr().out
    assert commands.done == [] and not (tmp_path / 'table').exists()
    assert '0.25: published (CIFAR-100, CVPR 2023)' in text and '0 of 4 cases' in text


def test_two_cases_for_real(run, run_tool, tmp_path, monkeypatch):
    """The commands themselves, in this process, with very few images."""

    def in_this_process(command, env, pass_fds):
        run_tool(Path(command[1]).stem, *command[2:])
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(jobs, 'subprocess', SimpleNamespace(Popen=in_this_process))
    few = 'train_dataloader.dataset.per_class=2'
    shorter = ['--epochs', 1, '--probe-epochs', 1, '--widths', 1, 0.5]
    small = [few, 'train_dataloader.batch_size=10', 'train_dataloader.num_workers=0']
    run(*shorter, '--cfg-options', *small, '--probe-options', few)
    found = json.loads((tmp_path / 'table/table.json').read_text())
    assert [list(found[case]['measured']) for case in 'ab'] == [['1', '0.5']] * 2
    assert all(0 <= value <= 100 for case in 'ab' for value in found[case]['measured'].values())
    assert (tmp_path / 'table/a/pretrain/epoch_1.pth').exists() and (tmp_path / 'table/a/calibrated.pth').exists()
