"""tools/analysis_tools/temporal_consistency.py on two checkpoints, and on what runs have written."""

import json

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.config import load_config
from us3l_mm.evaluation.temporal_record import FILE, report

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

CONFIG = 'configs/digits/r18_1xb64-16e_digits.py'


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """A model, one whose teacher has moved, and one without a teacher."""
    folder = tmp_path_factory.mktemp('checkpoints')
    cfg = load_config(CONFIG)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    state = model.state_dict()
    weights = dict(model.teacher.named_parameters(prefix='teacher'))
    moved = {**state, **{key: value + 0.1 * torch.randn_like(value) for key, value in weights.items()}}
    bare = {key: value for key, value in state.items() if 'teacher' not in key}
    for name, weights in (('a', state), ('b', moved), ('bare', bare)):
        torch.save(dict(state_dict=weights), folder / f'{name}.pth')
    return folder


def read(path):
    return json.loads(path.read_text())


def test_two_checkpoints(run_tool, checkpoints, capsys):
    run_tool(
        'temporal_consistency', CONFIG, checkpoints / 'a.pth', checkpoints / 'b.pth', *('--widths', 1.0, 0.5),
        *('--num-images', 8, '--device', 'cpu'),
    )  # fmt: skip
    out = checkpoints / 'insight' / 'temporal_consistency_checkpoints.json'
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    found = read(out)
    (group,) = found['data']['groups']
    assert group['name'] == 'a to b' and group['what'].startswith('InfoNCE base, MSE distillation, head')
    wide, narrow = group['rows']
    assert (wide['width'], wide['loss'], narrow['width'], narrow['loss']) == (1.0, 'nce', 0.5, 'mse')
    assert wide['target'] == narrow['target'] > 0.01  # the targets of both are the teacher's
    for row in group['rows']:  # students stay
        assert (row['mse_moving'], row['nce_moving']) == (row['mse_relative'], row['nce_relative'])
    printed = capsys.readouterr().out
    assert f'| a to b | 0.5 | MSE | {narrow["target"]:.3f} | {narrow["own"]:.3f} |' in printed
    assert found['says'] in printed and found['command'].startswith('us3l temporal-consistency configs')


def test_checkpoint_without_its_teacher_is_refused(run_tool, checkpoints):
    with pytest.raises(SystemExit, match=r'bare.pth lacks .*teacher.*give whole checkpoints'):
        run_tool('temporal_consistency', CONFIG, checkpoints / 'a.pth', checkpoints / 'bare.pth', '--num-images', 4)


def fake_run(folder, value, loss='mse', what='MSE base'):
    numbers = ('target', 'shared', 'spread', 'nce', 'mse_relative', 'nce_relative', 'mse_moving', 'nce_moving')
    names = (*numbers, 'own', 'own_relative', 'own_moving')
    rows = [dict(width=width, loss=loss, **dict.fromkeys(names, value * width)) for width in (1.0, 0.5)]
    points = [dict(iteration=iteration, rows=rows) for iteration in (1, 4)]
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text(json.dumps(report([dict(name=folder.name, what=what, points=points)], 'x')))


def test_several_runs(run_tool, tmp_path, capsys):
    fake_run(tmp_path / 'm0', 0.2)
    fake_run(tmp_path / 'm1', 0.4)
    fake_run(tmp_path / 'n', 0.1, 'nce', 'InfoNCE base')
    runs = [tmp_path / name for name in ('m0', 'm1', 'n')]
    run_tool('temporal_consistency', '--runs', *runs, '--names', 'mean', 'mean', 'other')
    printed = capsys.readouterr().out
    assert '| mean | 1 | MSE | 0.300 ± 0.141 |' in printed and '| other | 0.5 | InfoNCE | 0.050 |' in printed
    assert 'mean: MSE base; runs: 2, measurements of each: 2' in printed
    assert 'gradient of its loss: other 0.050 (InfoNCE), mean 0.150 (MSE)' in printed
    found = read(tmp_path / FILE)
    assert len(found['data']['runs']) == 3 and (tmp_path / FILE).with_suffix('.png').is_file()
    with pytest.raises(SystemExit, match='runs named x train differently: InfoNCE base; MSE base'):
        run_tool('temporal_consistency', '--runs', *runs, '--names', 'x', 'x', 'x')
    with pytest.raises(SystemExit, match='holds one of the runs'):
        run_tool('temporal_consistency', '--runs', *runs, '--out', (tmp_path / 'n' / FILE).with_suffix(''))
    run_tool('temporal_consistency', '--runs', tmp_path / 'n')  # into the run's own folder, which stays readable
    assert [run['name'] for run in read(tmp_path / 'n' / FILE)['data']['runs']] == ['n']
    run_tool('temporal_consistency', '--runs', tmp_path / 'n')


@pytest.mark.parametrize('words', [[], [CONFIG], [CONFIG, 'a', 'b', 'c'], [CONFIG, 'a', 'b', '--runs', 'x']])
def test_either_checkpoints_or_runs(run_tool, words, capsys):
    with pytest.raises(SystemExit):
        run_tool('temporal_consistency', *words)
    assert 'give a config and two checkpoints, or --runs and work dirs' in capsys.readouterr().err
