"""At every moment there is a whole checkpoint; ours stand in for mmengine's hook and loops."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop, Runner

from us3l_mm.engine import ResumableCheckpointHook, ResumableEpochLoop, ResumableIterLoop, ResumableRunner
from us3l_mm.utils import files


class Numbers(torch.utils.data.Dataset):
    metainfo = {}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(x=torch.tensor([index / 8]))


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x, mode='tensor'):
        loss = (self.linear(torch.stack(x)) - 1).pow(2).mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Score:
    """Stands for a metric: gives the next of some values."""

    dataset_meta = None

    def __init__(self, values):
        self.values = list(values)

    def process(self, *args):
        pass

    def evaluate(self, size):
        return dict(acc=self.values.pop(0))


def make_runner(work_dir, name='run', epochs=4, scores=None, train_cfg=None, checkpoint=None, **options):
    loader = dict(dataset=Numbers(), batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True))
    if scores is not None:
        options.update(val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(type='Evaluator', metrics=[]))
    runner = ResumableRunner(
        Line(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=train_cfg or dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **(checkpoint or {}))),
        randomness=dict(seed=0),
        log_level='WARNING',
        experiment_name=f'{work_dir.name}-{name}',
        **options,
    )
    if scores is not None:
        runner.val_loop.evaluator.metrics.append(Score(scores))
    return runner


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


def checkpoint_hook(runner):
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return hook


def test_compiled_code_is_kept_beside_the_work_dirs(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCHINDUCTOR_CACHE_DIR', raising=False)
    make_runner(tmp_path / 'dirs' / 'a')
    assert os.environ['TORCHINDUCTOR_CACHE_DIR'] == str(tmp_path / 'dirs' / 'compiled')
    make_runner(tmp_path / 'others' / 'b')  # where it has been chosen, it stays
    assert os.environ['TORCHINDUCTOR_CACHE_DIR'] == str(tmp_path / 'dirs' / 'compiled')


def test_ours_stand_in_for_those_of_mmengine(tmp_path):
    runner = make_runner(tmp_path, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1))
    runner.train()
    assert type(checkpoint_hook(runner)) is ResumableCheckpointHook
    assert type(runner.train_loop) is ResumableEpochLoop
    runner = make_runner(tmp_path / 'iterations', train_cfg=dict(by_epoch=False, max_iters=3))
    runner.train()
    assert type(runner.train_loop) is ResumableIterLoop and runner.iter == 3


def test_other_types_are_left_alone(tmp_path):
    class Mine(EpochBasedTrainLoop):
        pass

    runner = make_runner(tmp_path, train_cfg=dict(type=Mine, max_epochs=1))
    runner.register_hook(dict(type='CheckpointHook', out_dir='s3://bucket'))
    runner.train = None
    assert type(runner.train_loop) is Mine
    assert [type(hook) for hook in runner.hooks if isinstance(hook, CheckpointHook)] == [
        ResumableCheckpointHook,
        CheckpointHook,
    ]


def test_any_config_can_name_the_runner():
    assert RUNNERS.get('us3l_mm.ResumableRunner') is ResumableRunner  # mmengine's and mmpretrain's tools ask so


@pytest.mark.parametrize('keep, left', [(1, [4]), (2, [3, 4]), (-1, [1, 2, 3, 4])])
def test_newest_are_kept(tmp_path, keep, left):
    make_runner(tmp_path, checkpoint=dict(interval=1, max_keep_ckpts=keep)).train()
    assert names(tmp_path) == [f'epoch_{epoch}.pth' for epoch in left]
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_4.pth'


def test_the_old_one_goes_when_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    """Whatever moment the process dies at, a whole checkpoint is there."""
    seen = []

    def note(function):
        def noted(*args, **kwargs):
            whole = [path.name for path in tmp_path.glob('*.pth')]
            for path in whole:
                CheckpointLoader.load_checkpoint(str(tmp_path / path), logger='silent')
            seen.append((function.__name__, Path(args[0]).name, sorted(whole)))
            return function(*args, **kwargs)

        return noted

    monkeypatch.setattr(files.os, 'replace', note(os.replace))
    monkeypatch.setattr(Path, 'unlink', note(Path.unlink))
    make_runner(tmp_path, epochs=2, checkpoint=dict(interval=1, max_keep_ckpts=1)).train()
    seen = [entry for entry in seen if entry[2]]  # from the first checkpoint on
    assert seen
    assert ('unlink', 'epoch_1.pth', ['epoch_1.pth', 'epoch_2.pth']) in seen
    assert ('replace', 'epoch_2.pth.part', ['epoch_1.pth']) in seen


@pytest.mark.parametrize('epochs', [1, 3])
def test_full_disk_keeps_what_was_there(tmp_path, monkeypatch, epochs):
    make_runner(tmp_path, epochs=2, checkpoint=dict(interval=1, max_keep_ckpts=1)).train()
    before = (tmp_path / 'epoch_2.pth').read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, 'fsync', full)
        with pytest.raises(OSError, match=r'cannot write .*epoch_3\.pth: .*No space left.*MiB free'):
            make_runner(tmp_path, 'full', checkpoint=dict(interval=1, max_keep_ckpts=1), resume=True).train()
    assert names(tmp_path) == ['epoch_2.pth'] and (tmp_path / 'epoch_2.pth').read_bytes() == before
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_2.pth'
    runner = make_runner(tmp_path, 'again', checkpoint=dict(interval=1, max_keep_ckpts=1), resume=True)
    runner.train()
    assert runner.epoch == 4


def test_full_disk_of_the_logs_is_named(tmp_path):
    class Logger(Hook):
        def after_train_iter(self, *args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    runner = make_runner(tmp_path)
    runner.register_hook(Logger())
    with pytest.raises(OSError, match=f'cannot write logs in {tmp_path}.*No space left.*MiB free'):
        runner.train()


def test_half_written_files_are_cleared_away(tmp_path):
    (tmp_path / 'epoch_7.pth.part').write_bytes(b'half')
    make_runner(tmp_path, epochs=1).train()
    assert names(tmp_path) == ['epoch_1.pth']


def test_best_is_kept_until_a_better_one_is_written(tmp_path):
    options = dict(interval=1, max_keep_ckpts=1, save_best='acc')
    make_runner(tmp_path, scores=[0.3, 0.7, 0.5, 0.6], checkpoint=options).train()
    assert names(tmp_path) == ['best_acc_epoch_2.pth', 'epoch_4.pth']


def test_best_of_several_metrics(tmp_path):
    class Two(Score):
        def evaluate(self, size):
            value = self.values.pop(0)
            return dict(acc=value, loss=value)

    options = dict(interval=1, max_keep_ckpts=1, save_best=['acc', 'loss'])
    runner = make_runner(tmp_path, scores=[], checkpoint=options)
    runner.val_loop.evaluator.metrics[0] = Two([0.3, 0.7, 0.5, 0.2])
    runner.train()
    assert names(tmp_path) == ['best_acc_epoch_2.pth', 'best_loss_epoch_4.pth', 'epoch_4.pth']


def test_a_copied_run_leaves_the_best_of_the_original_alone(tmp_path):
    options = dict(interval=1, max_keep_ckpts=1, save_best='acc')
    make_runner(tmp_path / 'run', epochs=2, scores=[0.3, 0.7], checkpoint=options).train()
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    make_runner(tmp_path / 'copy', epochs=4, scores=[0.7, 0.8, 0.5], checkpoint=options, resume=True).train()
    assert names(tmp_path / 'run') == ['best_acc_epoch_2.pth', 'epoch_2.pth']
    assert names(tmp_path / 'copy') == ['best_acc_epoch_3.pth', 'epoch_4.pth']


def test_out_dir_is_found_again(tmp_path):
    options = dict(interval=1, out_dir=str(tmp_path / 'disk'), max_keep_ckpts=1)
    make_runner(tmp_path / 'run', epochs=2, checkpoint=options).train()
    assert names(tmp_path / 'disk' / 'run') == ['epoch_2.pth'] and not names(tmp_path / 'run')
    (tmp_path / 'run' / 'last_checkpoint').unlink()
    runner = make_runner(tmp_path / 'run', 'again', checkpoint=options, resume=True)
    runner.train()
    assert runner.iter == 8 and names(tmp_path / 'disk' / 'run') == ['epoch_4.pth']


def test_work_dir_with_checkpoints_needs_a_word(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    with pytest.raises(SystemExit, match='--resume.*--overwrite'):
        make_runner(tmp_path, 'again')
    runner = make_runner(tmp_path, 'over', epochs=2, checkpoint=dict(interval=1), cfg=dict(overwrite=True))
    assert names(tmp_path) == []
    runner.train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_nothing_to_resume_is_told(tmp_path, capsys):
    runner = make_runner(tmp_path, epochs=1, resume=True)
    runner.train()
    assert f'no checkpoint in {tmp_path}; starting from the beginning' in capsys.readouterr().out
    assert runner.iter == 2


def test_a_run_that_is_new_starts_from_the_weights_of_its_config(tmp_path, capsys):
    """As a job does whose every start has --resume."""
    make_runner(tmp_path / 'before', epochs=1).train()
    weights = str(tmp_path / 'before' / 'epoch_1.pth')
    fresh = make_runner(tmp_path / 'job', epochs=1, resume=True, cfg=dict(load_from_if_new=weights))
    fresh.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
    fresh.train()
    assert f'starting with the weights of {weights}' in capsys.readouterr().out
    loaded = CheckpointLoader.load_checkpoint(weights)['state_dict']
    for name, value in fresh.model.state_dict().items():
        assert torch.equal(value, loaded[name])


def test_checkpoints_of_mmengine_resume(tmp_path):
    """Runs that an earlier version began."""
    Runner(
        Line(),
        str(tmp_path),
        train_dataloader=dict(dataset=Numbers(), batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        randomness=dict(seed=0),
        experiment_name='old',
    ).train()
    runner = make_runner(tmp_path, resume=True)
    runner.train()
    assert (runner.epoch, runner.iter) == (4, 8)


def test_data_set_that_makes_no_batch_is_an_error(tmp_path):
    runner = make_runner(tmp_path)
    runner._train_dataloader.update(batch_size=9, drop_last=True)
    with pytest.raises(ValueError, match='the 8 images of the data set make no batch; make batch_size smaller'):
        runner.train()
    assert names(tmp_path) == []
