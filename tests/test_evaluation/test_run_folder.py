"""What is read from work dirs: by a real training that was resumed, and by hand-made ones."""

import json

import pytest
import torch
from mmengine.model import BaseModel

from builders import LOG_HEAD, us3l_lines, write_run
from us3l_mm.engine import ResumableRunner
from us3l_mm.evaluation import find_runs
from us3l_mm.evaluation.run_folder import read_run
from us3l_mm.version import __version__


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x, mode='tensor'):
        return dict(loss=(self.linear(torch.stack(x)) - 1).pow(2).mean())


def train(work_dir, epochs, name, **options):
    loader = dict(
        dataset=[dict(x=torch.ones(1))] * 8,
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    runner = ResumableRunner(
        Line(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2)),
        randomness=dict(seed=3),
        experiment_name=name,
        **options,
    )
    runner.train()


def test_a_training_of_mmengine_that_went_on(tmp_path):
    train(tmp_path, 2, 'first')
    first = read_run(tmp_path)
    # As if it had been lost after the checkpoint: what was logged since then ran again.
    (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
    with open(scalars, 'a') as file:
        file.write(json.dumps(dict(loss=9.0, epoch=3, iter=10, step=10)) + '\n{"loss": 1.')
    scalars.parents[1].rename(tmp_path / '20200101_000000')
    train(tmp_path, 4, 'second', resume=True)
    run = read_run(tmp_path)
    assert [line['step'] for line in first.training] == [2, 4, 6, 8]
    assert [line['step'] for line in run.training] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert all(line['loss'] < 9 for line in run.training)
    assert len(run.sessions) == 2 and run.sessions[0] == '20200101_000000'
    log = run.log
    assert (log.version, log.images, log.epoch_length, log.resumed, log.saved) == (__version__, 8, 4, 8, (4, 'epochs'))
    assert log.environment['seed'] == '3' and log.environment['PyTorch'] == torch.__version__
    assert [path.name for path in run.checkpoints][-1] == 'epoch_4.pth' and run.meta['iter'] == 16
    assert not run.faults and run.trains
    write_run(
        tmp_path,
        [],
        session='29990101_000000',
        log='2027/01/01 00:00:00 - mmengine - INFO - resumed epoch: 4, iter: 16\n',
    )
    again = read_run(tmp_path)  # resumed, though it was finished
    assert again.training == run.training and (again.log.epoch_length, again.log.saved) == (4, (4, 'epochs'))


def test_a_new_start_replaces_what_was_there_and_a_test_does_not(tmp_path):
    write_run(tmp_path, us3l_lines(5))
    write_run(tmp_path, us3l_lines(2, std=0.5), session='20261128_000000')
    write_run(tmp_path, [{'coco/bbox_mAP': 0.25, 'step': 1}], session='20261129_000000', head='')
    run = read_run(tmp_path)
    assert [line['feature_std'] for line in run.training] == [0.5, 0.5]
    assert run.metrics == {'coco/bbox_mAP': 0.25}
    assert run.log.commit == 'abc1234' and run.kind == 'pretraining'


def test_start_outside_a_checkout_has_no_commit(tmp_path):
    write_run(tmp_path, [], head=LOG_HEAD.replace(', commit abc1234', ''))
    log = read_run(tmp_path).log
    assert (log.version, log.commit, log.images, log.cores) == ('1.2.3', '', 1442, 2)


def test_warnings_are_kept_and_those_to_developers_are_not(tmp_path):
    entry = '2026/11/27 18:17:10 - mmengine - WARNING - '
    write_run(tmp_path, [], log=f'{entry}"FileClient" will be deprecated\n' + 2 * f'{entry}bad image x.jpg\n')
    assert read_run(tmp_path).log.warnings == ['bad image x.jpg']


def test_damaged_files_are_named(tmp_path):
    write_run(tmp_path, us3l_lines(1), config='model = dict(', saved=['epoch_1.pth'])
    (tmp_path / 'epoch_1.pth').write_bytes(b'no checkpoint')
    (tmp_path / 'cost.json').write_text('{"rows": [')
    run = read_run(tmp_path)
    assert [next(name for name in ('cost', 'config', 'epoch_1') if name in fault) for fault in run.faults] == [
        'cost',
        'config',
        'epoch_1',
    ]
    assert run.kind == 'other' and len(run.training) == 1


def test_runs_are_found_below_a_folder_and_each_once(tmp_path):
    for name in ('pretrain', 'deep/er/probe'):
        write_run(tmp_path / name, us3l_lines(1))
    (tmp_path / 'table').mkdir()
    (tmp_path / 'table' / 'table.json').write_text('{}')
    runs = find_runs([tmp_path, tmp_path / 'pretrain'])
    assert [run.name for run in runs] == ['deep/er/probe', 'pretrain', 'table']


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no run in or below .*give the --work-dir of a training'):
        find_runs([tmp_path])
    with pytest.raises(FileNotFoundError, match='no such folder'):
        find_runs([tmp_path / 'x'])


def test_monitor_lines_are_kept_by_epoch(tmp_path):
    lines = [{'monitor/knn_w0.5': 50.0 + epoch, 'step': epoch} for epoch in (1, 2)]
    write_run(tmp_path, [*us3l_lines(2), *lines])
    assert read_run(tmp_path).monitor == lines
    assert LOG_HEAD.count('commit') == 1
