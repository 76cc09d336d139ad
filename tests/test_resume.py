"""A resumed run equals one that was never interrupted, bit for bit, wherever it was interrupted."""

import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from builders import ROOT, SMALL_US3L
from us3l_mm.engine import ResumableRunner

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

BASE = ROOT / 'configs/_base_'
EPOCHS, BATCH, PER_CLASS = 4, 16, 5
PER_EPOCH = PER_CLASS * 10 // BATCH


class Interrupt(Hook):
    """Stops the run before an iteration, as a lost machine does."""

    def __init__(self, iteration):
        self.when = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.when:
            raise KeyboardInterrupt


class Record(Hook):
    """Notes the widths of each iteration and a sum over its images."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        widths = [value for name, value in sorted(outputs.items()) if name.startswith('width')]
        images = [view.double().sum().item() for view in data_batch['inputs']]
        self.seen.append((runner.iter, batch_idx, *widths, *images))


class CountLoads:
    """A transform that notes each image it sees."""

    def __init__(self):
        self.seen = []

    def __call__(self, results):
        self.seen.append(results['sample_idx'])
        return results


def run(work_dir, workers=0, update='per_width', hooks=(), resume=False, seed=0, by_epoch=True, **options):
    """Train in a process as good as new; returns the record and what the last checkpoint would hold."""
    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()
    torch.manual_seed(int(resume) + 17)  # the Runner has to do without what was there before
    cfg = Config()
    for part in ('models/us3l_nce', 'datasets/digits_us3l', 'default_runtime'):
        cfg.merge_from_dict(Config.fromfile(BASE / f'{part}.py').to_dict())
    length = dict(max_epochs=EPOCHS) if by_epoch else dict(max_iters=EPOCHS * PER_EPOCH)
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            resume=resume,
            log_level='WARNING',
            vis_backends=[],
            visualizer=dict(vis_backends=[]),
            train_dataloader=dict(batch_size=BATCH, num_workers=workers, dataset=dict(per_class=PER_CLASS)),
            train_cfg=dict(by_epoch=by_epoch, **length),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0)),
            randomness=dict(seed=seed),
            param_scheduler=[dict(type='CosineAnnealingLR', T_max=EPOCHS, by_epoch=by_epoch)],
            default_hooks=dict(checkpoint=dict(interval=2)),
            model=dict(update=update, by_epoch=by_epoch, **SMALL_US3L),
        )
    )
    cfg.merge_from_dict(options)
    runner = ResumableRunner.from_cfg(cfg)
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


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """An uninterrupted run by updates; made once."""
    runs = {}

    def get(update='per_width', by_epoch=True):
        key = update, by_epoch
        if key not in runs:
            runs[key] = run(tmp_path_factory.mktemp('whole'), update=update, by_epoch=by_epoch)
        return runs[key]

    return get


@pytest.mark.parametrize('workers, update', [(0, 'per_width'), (1, 'accumulate')])
def test_resume_equals_uninterrupted(workers, update, tmp_path, whole):
    seen, expected = whole(update)
    before, nothing = run(tmp_path, workers, update, [Interrupt(2 * PER_EPOCH + 1)])
    assert nothing is None
    after, resumed = run(tmp_path, workers, update, resume=True)

    assert len(seen) == EPOCHS * PER_EPOCH
    assert before == seen[: 2 * PER_EPOCH + 1]  # the same images and widths, up to the interruption
    assert after == seen[2 * PER_EPOCH :]  # and from the last checkpoint on
    assert_bit_equal(resumed, expected)

    # The run did what it is meant to test: it trained everything, at narrower widths from stage to stage.
    assert [len(entry) - 4 for entry in seen[::PER_EPOCH]] == [1, 3, 3, 3]
    assert len({entry[-2:] for entry in seen}) == len(seen)  # no batch is repeated
    trained = {name.split('.')[0] for name in expected['model']}
    assert trained == {'backbone', 'neck', 'distill_predictor', 'teacher'}
    assert len(expected['optimizer']['state']) > 30
    teacher, online = (expected['model'][f'{part}backbone.conv1.weight'] for part in ('teacher.', ''))
    assert not torch.equal(teacher, online)


@pytest.mark.parametrize('interval, last', [(1, 7), (2, 6), (4, 4)])
@pytest.mark.parametrize('workers', [0, 2])
def test_checkpoints_by_iteration_go_on_with_the_next_batch(workers, interval, last, tmp_path, whole):
    """PER_EPOCH is 3: the run goes on in the middle of an epoch, at its end, and with other workers than before."""
    seen, expected = whole()
    checkpoints = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=interval)))
    before, _ = run(tmp_path, workers, hooks=[Interrupt(7)], **checkpoints)
    after, resumed = run(tmp_path, 2 - workers, resume=True, **checkpoints)
    assert before == seen[:7]
    assert after == seen[last:]
    assert_bit_equal(resumed, expected)


def test_images_of_the_past_are_not_loaded(tmp_path, whole):
    seen, _ = whole()
    checkpoints = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=1)))
    run(tmp_path, hooks=[Interrupt(7)], **checkpoints)
    count = CountLoads()

    class Watch(Hook):
        def before_train_epoch(self, runner):
            runner.train_dataloader.dataset.pipeline.transforms.insert(0, count)

    # Epoch 2 goes on after its first batch; the transform is put in twice for epoch 3.
    after, _ = run(tmp_path, resume=True, hooks=[Watch()], **checkpoints)
    assert after == seen[7:]
    assert len(count.seen) == (2 + 2 * PER_EPOCH) * BATCH


@pytest.mark.parametrize('interval, last', [(2, 6), (7, 7)])
def test_a_run_of_iterations_goes_on_with_the_next_batch(interval, last, tmp_path, whole):
    seen, expected = whole(by_epoch=False)
    checkpoints = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=interval)))
    run(tmp_path, hooks=[Interrupt(7)], by_epoch=False, **checkpoints)
    after, resumed = run(tmp_path, workers=1, resume=True, by_epoch=False, **checkpoints)
    assert [entry[0] for entry in seen] == list(range(EPOCHS * PER_EPOCH))
    assert after == seen[last:]
    assert_bit_equal(resumed, expected)


def test_a_seed_that_was_drawn_is_kept(tmp_path):
    """A config without a seed draws one; the order of the images depends on it."""
    checkpoints = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=1)))
    seen, expected = run(tmp_path / 'whole', seed=None, **checkpoints)
    shutil.copytree(tmp_path / 'whole', tmp_path / 'parts')
    for path in (tmp_path / 'parts').glob('iter_*.pth'):
        if path.stem != 'iter_10':
            path.unlink()
    after, resumed = run(tmp_path / 'parts', seed=None, resume=True, **checkpoints)
    assert after == seen[10:]
    assert_bit_equal(resumed, expected)


def test_epochs_of_another_length_are_refused(tmp_path):
    run(tmp_path, hooks=[Interrupt(7)])
    with pytest.raises(ValueError, match=r'epoch_2\.pth have 3 batches .*those of this run 6'):
        run(tmp_path, resume=True, train_dataloader=dict(batch_size=BATCH // 2))


def test_another_seed_gives_another_run(tmp_path):
    """Else the tests above could hold because nothing is random."""
    first, second = (run(tmp_path / str(seed), hooks=[Interrupt(2)], seed=seed)[0] for seed in (0, 1))
    assert len(first) == len(second) == 2
    assert all(a[-2:] != b[-2:] for a, b in zip(first, second))
