"""A resumed run equals one that was never interrupted, bit for bit."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from builders import ROOT, SMALL_US3L

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

BASE = ROOT / 'configs/_base_'
EPOCHS, BATCH, PER_CLASS = 4, 16, 5


class Interrupt(Hook):
    """Stops the run in the middle of an epoch, as a lost machine does."""

    def __init__(self, epoch, iteration):
        self.when = epoch, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.epoch, batch_idx) == self.when:
            raise KeyboardInterrupt


class Record(Hook):
    """Notes the widths of each iteration and a sum over its images."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        widths = [value for name, value in sorted(outputs.items()) if name.startswith('width')]
        images = [view.double().sum().item() for view in data_batch['inputs']]
        self.seen.append((runner.epoch, batch_idx, *widths, *images))


def run(work_dir, workers, update, hooks=(), resume=False, seed=0):
    """Train in a process as good as new; returns the record and what the last checkpoint would hold."""
    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()
    torch.manual_seed(int(resume) + 17)  # the Runner has to do without what was there before
    cfg = Config()
    for part in ('models/us3l_nce', 'datasets/digits_us3l', 'default_runtime'):
        cfg.merge_from_dict(Config.fromfile(BASE / f'{part}.py').to_dict())
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            resume=resume,
            log_level='WARNING',
            vis_backends=[],
            visualizer=dict(vis_backends=[]),
            train_dataloader=dict(batch_size=BATCH, num_workers=workers, dataset=dict(per_class=PER_CLASS)),
            train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0)),
            randomness=dict(seed=seed),
            param_scheduler=[dict(type='CosineAnnealingLR', T_max=EPOCHS, by_epoch=True)],
            default_hooks=dict(checkpoint=dict(interval=2)),
            model=dict(
                update=update,
                **SMALL_US3L,
            ),
        )
    )
    runner = Runner.from_cfg(cfg)
    record = Record()
    for hook in (record, *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    except KeyboardInterrupt:
        return record.seen, None
    state = dict(
        model=runner.model.state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        scheduler=[scheduler.state_dict() for scheduler in runner.param_schedulers],
        iterations=runner.iter,
        epochs=runner.epoch,
    )
    return record.seen, state


def assert_bit_equal(a, b, where=''):
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_bit_equal(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b)):
            assert_bit_equal(*pair, f'{where}[{i}]')
    else:
        assert a == b, where


@pytest.mark.parametrize('workers, update', [(0, 'per_width'), (1, 'accumulate')])
def test_resume_equals_uninterrupted(workers, update, tmp_path):
    seen, expected = run(tmp_path / 'whole', workers, update)
    before, nothing = run(tmp_path / 'parts', workers, update, [Interrupt(2, 1)])
    assert nothing is None
    after, resumed = run(tmp_path / 'parts', workers, update, resume=True)

    per_epoch = PER_CLASS * 10 // BATCH
    assert len(seen) == EPOCHS * per_epoch
    assert before == seen[: 2 * per_epoch + 1]  # the same images and widths, up to the interruption
    assert after == seen[2 * per_epoch :]  # and from the last checkpoint on
    assert_bit_equal(resumed, expected)

    # The run did what it is meant to test: it trained everything, at narrower widths from stage to stage.
    assert [len(entry) - 4 for entry in seen[::per_epoch]] == [1, 3, 3, 3]
    assert len({entry[-2:] for entry in seen}) == len(seen)  # no batch is repeated
    trained = {name.split('.')[0] for name in expected['model']}
    assert trained == {'backbone', 'neck', 'distill_predictor', 'teacher'}
    assert len(expected['optimizer']['state']) > 30
    teacher, online = (expected['model'][f'{part}backbone.conv1.weight'] for part in ('teacher.', ''))
    assert not torch.equal(teacher, online)


def test_another_seed_gives_another_run(tmp_path):
    """Else the test above could hold because nothing is random."""
    first, second = (run(tmp_path / str(seed), 0, 'per_width', [Interrupt(0, 2)], seed=seed)[0] for seed in (0, 1))
    assert len(first) == len(second) == 2
    assert all(a[-2:] != b[-2:] for a, b in zip(first, second))
