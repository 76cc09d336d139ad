"""Monitor and cost of a real training: they change nothing in it, survive interruptions, and know a collapse."""

import json
import shutil
from collections import Counter

import pytest
import torch
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend

from us3l_mm.evaluation import CostHook, MonitorHook
from us3l_mm.slim import WidthSampler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]
NAMES = {'feature_std', 'alignment', 'uniformity', 'rankme', 'knn', 'linear'}
HEAD = dict(in_channels=64, hid_channels=64, out_channels=64)
US3L = dict(distill_predictor=HEAD)
MEASURED = {f'monitor/{name}_w{width}' for name in NAMES for width in ('1', '0.5', '0.25')}


@VISBACKENDS.register_module()
class StandIn(BaseVisBackend):
    """Stands for TensorBoard or W&B: keeps what it is given."""

    given = []

    def __init__(self, save_dir=None):
        super().__init__(save_dir or '')

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        self.given.append((step, dict(scalar_dict)))


def options(labelled, **more):
    monitor = dict(type='us3l_mm.MonitorHook', num_images=30, dataset=labelled, **{'interval': 2, **more})
    backends = [dict(type='LocalVisBackend'), dict(type='StandIn')]
    return dict(custom_hooks=[monitor], vis_backends=backends, visualizer=dict(vis_backends=backends))


def read(work_dir, name):
    return json.loads((work_dir / f'{name}.json').read_text())


def counted(cost):
    """What of a cost does not depend on the clock."""
    rows = [{key: value for key, value in row.items() if key != 'seconds'} for row in cost['rows']]
    return rows, cost['iterations'], cost['passes_T']


@pytest.fixture(scope='module')
def watched(tmp_path_factory, small_training, labelled):
    """A training with both hooks."""
    StandIn.given = []
    work_dir = tmp_path_factory.mktemp('watched')
    runner = small_training(work_dir, parts=US3L, **options(labelled))
    return runner, work_dir, list(StandIn.given)


def test_training_is_the_same_bit_by_bit_without_them(watched, tmp_path, small_training):
    runner = watched[0]
    plain = small_training(tmp_path, parts=US3L, cost=False)
    assert not any(isinstance(hook, (CostHook, MonitorHook)) for hook in plain.hooks)
    states = [each.model.state_dict() for each in (runner, plain)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_values_reach_all_backends(watched):
    _, work_dir, given = watched
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    local = {line.pop('step'): line for line in lines if 'monitor/rankme_w1' in line}
    assert list(local) == [0, 2, 4]
    assert all(set(line) == MEASURED for line in local.values())
    assert local == {step: values for step, values in given if 'monitor/rankme_w1' in values}
    assert any('loss_narrowest' in line and 'width_narrowest' in line and 'lr' in line for line in lines)


def test_healthy_training_has_no_warning_and_names_its_best_checkpoint(watched):
    _, work_dir, given = watched
    report = read(work_dir, 'monitor')
    assert report['warnings'] == []
    measured = {step: values for step, values in given if 'monitor/knn_w1' in values and step}
    for name in ('rankme', 'knn'):
        best = report['best'][name]
        assert best['value'] == max(values[f'monitor/{name}_w1'] for values in measured.values())
        assert best['value'] == measured[best['epoch']][f'monitor/{name}_w1'] and best['width'] == 1
        assert (work_dir / best['checkpoint']).is_file() and best['checkpoint'] == f'epoch_{best["epoch"]}.pth'


def test_resumed_training_has_the_same_records(watched, tmp_path, small_training, labelled):
    for path in watched[1].glob('*.*'):
        shutil.copy(path, tmp_path)
    (tmp_path / 'epoch_4.pth').unlink()  # what was counted and measured after the second epoch comes again
    small_training(tmp_path, parts=US3L, resume=True, **options(labelled))
    assert read(watched[1], 'monitor') == read(tmp_path, 'monitor')
    assert counted(read(watched[1], 'cost')) == counted(read(tmp_path, 'cost'))
    before = (tmp_path / 'cost.json').read_bytes()
    small_training(tmp_path, parts=US3L, resume=True, **options(labelled))  # which has nothing left to do
    assert (tmp_path / 'cost.json').read_bytes() == before


def test_cost_equals_a_loop_over_the_sampler(watched):
    cost, sampler = read(watched[1], 'cost'), WidthSampler()
    expected = Counter()
    for iteration in range(12):
        for width in sampler(iteration, iteration // 3, 4):
            expected[iteration // 3, round(width / 0.05) * 5] += 1
    students = [row for row in cost['rows'] if row['role'] == 'student']
    assert {(row['stage'], round(100 * row['width'])): row['forward'] for row in students} == expected
    for row in cost['rows']:
        assert row['images'] == 2 * 8 * row['forward'] and row['macs'] > 0 and row['seconds'] > 0
        assert row['backward'] == (row['forward'] if row['role'] == 'student' else 0)
    teachers = [row for row in cost['rows'] if row['role'] == 'teacher']
    assert [(row['stage'], row['width'], row['forward']) for row in teachers] == [(s, 1, 3) for s in range(4)]
    assert cost['passes_T'] == 2.5 and cost['iterations'] == 12
    assert sum(row['seconds'] for row in cost['rows']) < cost['seconds']
    assert cost['wall_clock_T'] == pytest.approx(cost['seconds'] / 12 / cost['full_width_iteration_s'])


def test_single_network_costs_one_t(tmp_path, small_training):
    small_training(tmp_path, model='simclr', train_cfg=dict(max_epochs=1))
    cost = read(tmp_path, 'cost')
    (row,) = cost['rows']
    assert (row['forward'], row['backward'], row['images']) == (3, 3, 48)
    assert cost['passes_T'] == 1 and cost['wall_clock_T'] == pytest.approx(1) and row['macs'] > 0


def test_collapse_is_noticed(tmp_path, small_training):
    """US-Net with SimSiam at ten times its rate: all widths fall into few dimensions, which only RankMe sees."""
    parts = dict(head=dict(predictor=HEAD), sampler=dict(num_widths=2))
    longer = dict(train_cfg=dict(max_epochs=12), default_hooks=dict(checkpoint=dict(interval=12)))
    rate = dict(optimizer=dict(type='SGD', lr=0.5, momentum=0.9))
    settings = options(None, interval=12)
    small_training(tmp_path, model='us_simsiam', parts=parts, optim_wrapper=rate, **longer, **settings)
    report = read(tmp_path, 'monitor')
    assert [entry['epoch'] for entry in report['warnings']] == [12] * 3
    for width, entry in zip(('1', '0.5', '0.25'), report['warnings']):
        assert entry['text'].startswith(f'width {width} has collapsed')
    assert set(report['best']) == {'rankme'}
