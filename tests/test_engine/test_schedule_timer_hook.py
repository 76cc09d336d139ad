"""The ETA of a training whose clock ticks by the MACs of its widths, against the time that it took in the end."""

import time

import mmengine.hooks.iter_timer_hook as timer
import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook, IterTimerHook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner

from builders import TinyResNet
from us3l_mm.deploy.costs import width_complexity
from us3l_mm.engine import ResumableRunner, ScheduleTimerHook
from us3l_mm.engine.schedule_timer_hook import schedule_costs
from us3l_mm.models import SlimmableResNet
from us3l_mm.models.multi_width import MultiWidthTraining
from us3l_mm.slim import WidthSampler

BATCHES, EPOCHS = 15, 8
STAGE = BATCHES * EPOCHS // 4


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on when a model says so."""
    now = [1000.0]
    monkeypatch.setattr(timer, 'time', type('Clock', (), {'time': staticmethod(lambda: now[0])}))
    return now


@pytest.fixture(scope='module')
def seconds():
    """Seconds that a ResNet-18 takes at a width, if they go by its MACs."""
    net = SlimmableResNet(depth=18)
    grid = np.linspace(0.25, 1, 7).tolist()
    macs = [width_complexity(net, width, (64, 64))['macs'] / 1e9 for width in grid]
    return lambda width: np.interp(width, grid, macs)


class Model(BaseModel):
    """Trains nothing; an iteration takes two seconds."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.weight = clock, torch.nn.Parameter(torch.zeros(1))

    def forward(self, *args, **kwargs):
        raise NotImplementedError

    def train_step(self, data, optim_wrapper):
        self.clock[0] += 2
        return dict(loss=torch.zeros(1))


class SeveralWidths(MultiWidthTraining):
    """Trains nothing; each width takes its time."""

    def __init__(self, clock, seconds, by_epoch=True, **sampler):
        super().__init__()
        self.clock, self.seconds, self.backbone = clock, seconds, TinyResNet()
        self.set_training(sampler, None, 'per_width', by_epoch)

    def train_step(self, data, optim_wrapper):
        hub = MessageHub.get_current_instance()
        clock = ('epoch', 'max_epochs') if self.by_epoch else ('iter', 'max_iters')
        widths = self.sampler(*map(hub.get_info, ('iter', *clock)))
        self.clock[0] += sum(map(self.seconds, widths))
        return dict(loss=torch.zeros(1))


class Watch(Hook):
    """Notes time and ETA after each iteration."""

    priority = 'LOWEST'

    def __init__(self, clock):
        self.clock, self.seen = clock, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append((self.clock[0], runner.message_hub.get_info('eta')))


def train(model, clock, work_dir, kind=ResumableRunner, epochs=EPOCHS, **options):
    """Time that was left after each iteration, and the ETA that was printed."""
    watch = Watch(clock)
    data = torch.zeros(BATCHES)
    runner = kind(
        model,
        str(work_dir),
        dict(batch_size=1, dataset=data, sampler=DefaultSampler(data, shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[watch],
        experiment_name=f'{work_dir.name}{time.time_ns()}',
        **options,
    )
    runner.train()
    return np.array([[clock[0] - then, eta] for then, eta in watch.seen]).T


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('sampler', [{}, dict(num_widths=2), dict(slow_start=0.5), dict(widths=[1.0, 0.5, 0.25])])
def test_eta_of_the_first_stage_is_the_time_that_is_left(clock, seconds, tmp_path, sampler, by_epoch):
    left, eta = train(SeveralWidths(clock, seconds, by_epoch, **sampler), clock, tmp_path)
    assert np.abs(eta[:-1] / left[:-1] - 1).max() < 0.05
    per_iteration = (left[0] - left[STAGE - 1]) / (STAGE - 1)
    assert left[STAGE - 1] > 1.15 * per_iteration * (3 * STAGE)  # where mmengine's is short


def test_eta_of_the_last_stage_goes_by_what_narrow_widths_were_measured_to_take(clock, tmp_path):
    left, eta = train(SeveralWidths(clock, lambda width: 1 + width**2), clock, tmp_path, epochs=40)
    late = slice(9 * len(left) // 10, -1)
    assert np.abs(eta[late] - left[late]).max() < 0.1 * left[late.start]


def test_resumed_training_counts_what_it_has_done_itself(clock, seconds, tmp_path):
    train(SeveralWidths(clock, seconds), clock, tmp_path, epochs=3)
    clock[0] += 1e6
    model = SeveralWidths(clock, seconds)
    left, eta = train(model, clock, tmp_path, resume=True)
    assert len(left) == (EPOCHS - 3) * BATCHES
    assert np.abs(eta[:-1] / left[:-1] - 1).max() < 0.05


def test_eta_of_one_width_is_that_of_mmengine(clock, tmp_path):
    left, eta = train(Model(clock), clock, tmp_path / 'ours')
    assert np.array_equal(eta, train(Model(clock), clock, tmp_path / 'theirs', kind=Runner)[1])
    assert np.allclose(eta, left)


def test_long_schedules_are_followed_by_a_sample(clock, seconds):
    model = SeveralWidths(clock, seconds)
    iters, costs = schedule_costs(model, 20_000, 100)
    assert len(iters) == 1001
    exact = np.cumsum([sum(w * w for w in model.sampler(i, i // 200, 100)) for i in range(20_000)])
    for i in (5_000, 10_000, 15_000, 20_000):
        assert abs(np.interp(i, iters, costs) / exact[i - 1] - 1) < 0.01


def test_hook_of_mmengine_is_replaced_and_others_stay(clock, tmp_path):
    class Own(IterTimerHook):
        pass

    for given, found in ((dict(type='IterTimerHook'), ScheduleTimerHook), (Own(), Own)):
        runner = ResumableRunner(Model(clock), str(tmp_path), default_hooks=dict(timer=given))
        assert [type(hook) for hook in runner.hooks if isinstance(hook, IterTimerHook)] == [found]


def test_sampler_of_another_type_has_a_schedule(clock, seconds, tmp_path):
    class Late(WidthSampler):
        def __call__(self, iteration, epoch, max_epochs):
            return [1.0] * (1 + 4 * (epoch == max_epochs - 1))

    model = SeveralWidths(clock, seconds)
    model.sampler = Late()
    left, eta = train(model, clock, tmp_path)
    assert np.allclose(eta, left)
