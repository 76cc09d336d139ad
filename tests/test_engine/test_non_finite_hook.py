"""A training whose loss, gradient or weights are not finite stops in time, or leaves the update out."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch.utils.data import Dataset

from builders import ABLATIONS, make_us3l
from us3l_mm.engine import NonFiniteHook, ResumableRunner
from us3l_mm.engine.non_finite_hook import NonFiniteError

EPOCH, EPOCHS = 4, 10  # iterations of an epoch, and epochs


class Numbers(Dataset):
    def __getitem__(self, index):
        return dict(x=torch.tensor([float(index)]))

    def __len__(self):
        return 2 * EPOCH


class Line(BaseModel):
    """Adds a value to the loss, multiplies the gradient by one, or has NaN for an image, in an iteration."""

    def __init__(self, bad_loss=None, bad_gradient=None, bad_images=()):
        super().__init__()
        self.norm, self.linear = torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1)
        self.bad_loss, self.bad_gradient, self.bad_images = bad_loss or {}, bad_gradient or {}, bad_images

    def forward(self, x, mode='tensor'):
        iteration = MessageHub.get_current_instance().get_info('iter')
        x = torch.stack(x)
        if iteration in self.bad_images:
            x[0] = math.nan
        output = self.linear(self.norm(x))
        if iteration in self.bad_gradient:
            output.register_hook(lambda gradient: gradient * self.bad_gradient[iteration])
        return dict(loss=(output - 1).tanh().pow(2).mean() + self.bad_loss.get(iteration, 0.0))


class Record(Hook):
    """Notes the images of each iteration, and the weights and statistics after it."""

    def __init__(self):
        self.images, self.weights, self.statistics = [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.images.append([int(image) for image in data_batch['x']])
        self.weights.append([parameter.detach().clone() for parameter in runner.model.parameters()])
        self.statistics.append([buffer.clone() for buffer in runner.model.buffers()])


def make_runner(work_dir, model, hook, checkpoint=None, name='run', **options):
    record = Record()
    runner = ResumableRunner(
        model,
        str(work_dir),
        train_dataloader=dict(
            dataset=Numbers(), batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[dict(type='us3l_mm.NonFiniteHook', **hook)],
        randomness=dict(seed=3),
        experiment_name=f'{work_dir.name}-{name}',
        **options,
    )
    runner.register_hook(record)
    return runner, record


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('bad, interval, stop', [(0, 10, 10), (9, 10, 10), (10, 10, 20), (13, 3, 15), (7, 1, 8)])
def test_training_stops_at_the_next_look(value, bad, interval, stop, tmp_path):
    runner, record = make_runner(tmp_path, Line(bad_loss={bad: value}), dict(interval=interval))
    with pytest.raises(NonFiniteError, match=rf'the loss of iteration {bad + 1} is {value}\..*Lower the learning rate'):
        runner.train()
    assert runner.iter + 1 == stop and stop - bad <= interval + 1
    (path,) = (tmp_path / 'nonfinite').iterdir()
    report = json.loads(path.read_text())
    assert report['iteration'] == bad + 1 and report['widths'] == []
    if bad + 1 < stop:  # the hook has stopped the last one before it was recorded
        assert report['images'] == record.images[bad]
    assert report['seeds'] == dict(seed=3, rank=0, iteration=bad)
    assert report['values']['loss'] == value or math.isnan(value)


def test_report_names_the_images_of_the_iteration(tmp_path):
    bad = EPOCH - 1  # the look comes in a later epoch
    runner, record = make_runner(tmp_path, Line(bad_loss={bad: math.nan}), dict(interval=10))
    with pytest.raises(NonFiniteError):
        runner.train()
    report = json.loads((tmp_path / f'nonfinite/iter_{bad + 1}_rank_0.json').read_text())
    assert report['images'] == record.images[bad] and record.images[bad] != record.images[bad + 1]


@pytest.mark.parametrize('by_epoch, last', [(True, 'epoch_3.pth'), (False, 'iter_12.pth')])
def test_no_checkpoint_is_written_after_it(by_epoch, last, tmp_path):
    bad = 3 * EPOCH + 1
    checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else EPOCH, by_epoch=by_epoch, max_keep_ckpts=1)
    model = Line(bad_loss={bad: math.nan})
    runner, _ = make_runner(tmp_path, model, dict(interval=1000), checkpoint)  # the checkpoint comes before the look
    with pytest.raises(NonFiniteError, match=rf'loss of iteration {bad + 1} is nan.*the last checkpoint is .*{last}'):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == [last]
    assert (tmp_path / 'last_checkpoint').read_text() == last

    model = Line(bad_loss={bad: math.nan})  # what the report says reproduces it
    runner, _ = make_runner(tmp_path, model, dict(interval=1), checkpoint, name='again', resume=True)
    with pytest.raises(NonFiniteError, match=rf'loss of iteration {bad + 1} is nan'):
        runner.train()
    assert runner.iter == bad


@pytest.mark.parametrize('by_epoch', [True, False])
def test_weights_are_looked_at_before_a_checkpoint(by_epoch, tmp_path):
    """The gradient of the last iteration before it is bad, so that no loss has shown it yet."""
    bad = 2 * EPOCH - 1
    checkpoint = dict(type='CheckpointHook', interval=2 if by_epoch else 2 * EPOCH, by_epoch=by_epoch)
    runner, _ = make_runner(tmp_path, Line(bad_gradient={bad: math.nan}), {}, checkpoint)
    with pytest.raises(NonFiniteError, match=rf'no checkpoint of iteration {bad + 1} was written: NaN in .*linear'):
        runner.train()
    assert not list(tmp_path.glob('*.pth')) and (tmp_path / f'nonfinite/iter_{bad + 1}_rank_0.json').is_file()


def test_end_of_the_training_is_looked_at(tmp_path):
    last = EPOCH * EPOCHS - 1
    runner, _ = make_runner(tmp_path, Line(bad_loss={last: math.nan}), dict(interval=7))
    with pytest.raises(NonFiniteError, match=f'loss of iteration {last + 1} is nan'):
        runner.train()


def test_update_is_left_out_by_option(tmp_path, capsys):
    bad = [5, 6, 20]
    model = Line(bad_gradient=dict.fromkeys(bad, math.inf))
    runner, record = make_runner(tmp_path, model, dict(on_nonfinite='skip', max_skipped=3))
    runner.train()
    assert runner.iter == EPOCH * EPOCHS
    # Independent of the hook: the weights stand still in these iterations alone.
    still = [
        now
        for now in range(1, len(record.weights))
        if all(map(torch.equal, record.weights[now], record.weights[now - 1]))
    ]
    assert still == bad and all(weight.isfinite().all() for weight in record.weights[-1])
    out = capsys.readouterr().out
    for count, iteration in enumerate(bad, 1):
        assert f'a gradient of iteration {iteration + 1} is not finite: update left out, {count} of at most 3' in out
        report = json.loads((tmp_path / f'nonfinite/iter_{iteration + 1}_rank_0.json').read_text())
        assert report['images'] == record.images[iteration]


def test_batch_norm_forgets_what_was_left_out(tmp_path):
    bad = 6
    model = Line(bad_images=[bad])
    runner, record = make_runner(tmp_path, model, dict(on_nonfinite='skip'))
    runner.train()
    changed = [
        now
        for now in range(1, len(record.statistics))
        if any(not torch.equal(*pair) for pair in zip(record.statistics[now], record.statistics[now - 1]))
    ]
    assert changed == [now for now in range(1, EPOCH * EPOCHS) if now != bad]
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())


def test_skipping_has_a_limit(tmp_path):
    model = Line(bad_gradient=dict.fromkeys([5, 6, 7], math.nan))
    runner, record = make_runner(tmp_path, model, dict(on_nonfinite='skip', max_skipped=2))
    with pytest.raises(NonFiniteError, match='gradient of iteration 8 is not finite, and 2 updates were left out'):
        runner.train()
    assert all(weight.isfinite().all() for weight in record.weights[-1])


@pytest.mark.parametrize('by_epoch', [True, False])
def test_report_names_the_widths(by_epoch, tmp_path):
    model = make_us3l(ABLATIONS[15])
    model.by_epoch = by_epoch
    hook = NonFiniteHook(interval=1)
    iteration = 25  # of 40, in epoch 6 of 10
    runner = SimpleNamespace(
        model=model,
        iter=iteration,
        max_iters=EPOCH * EPOCHS,
        max_epochs=EPOCHS,
        train_dataloader=SimpleNamespace(batch_sampler=None),
        work_dir=str(tmp_path),
        seed=0,
        rank=0,
    )
    time = (iteration // EPOCH, EPOCHS) if by_epoch else (iteration, EPOCH * EPOCHS)
    widths = model.sampler(iteration, *time)
    hook.before_train(runner)
    with pytest.raises(NonFiniteError, match=rf'widths 1, .*{widths[-1]:.4g}\)'):
        hook.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(math.nan)))
    (path,) = (tmp_path / 'nonfinite').iterdir()
    assert json.loads(path.read_text())['widths'] == widths and len(widths) > 1


@pytest.mark.parametrize('loss', [0.0, -2.5, 1e30])
def test_finite_losses_are_fine(loss, tmp_path):
    runner, record = make_runner(tmp_path, Line(bad_loss=dict.fromkeys(range(40), loss)), dict(interval=1))
    runner.train()
    assert len(record.images) == 40 and not (tmp_path / 'nonfinite').exists()


def test_it_is_on_without_a_word(tmp_path):
    runner, _ = make_runner(tmp_path, Line(bad_loss={3: math.nan}), {})
    runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, NonFiniteHook)]
    with pytest.raises(NonFiniteError):
        runner.train()
    assert runner.iter < 23


@pytest.mark.parametrize(
    'options, error',
    [
        (dict(interval=0), ValueError),
        (dict(interval=2.5), TypeError),
        (dict(max_skipped=-1), ValueError),
        (dict(on_nonfinite='ignore'), ValueError),
    ],
)
def test_options_out_of_range_are_named(options, error):
    with pytest.raises(error, match=next(iter(options))):
        NonFiniteHook(**options)
