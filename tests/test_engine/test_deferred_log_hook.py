"""Log and checkpoints hold what mmengine's own hook would have written; values are read where they are logged."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner

import us3l_mm  # noqa: F401
from us3l_mm.engine import DeferredRuntimeInfoHook

BATCHES, EPOCHS = 7, 3
NAMES = ('loss', 'width', 'whole', 'rare', 'running', 'graph')


class Model(BaseModel):
    """Its outputs are tensors and numbers; one of them appears in some iterations only."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.count = 0
        self.running = torch.zeros(1)

    def forward(self, *args, **kwargs):
        raise NotImplementedError

    def train_step(self, data, optim_wrapper):
        self.count += 1
        self.running += self.count  # in place
        logs = dict(
            loss=(self.weight * torch.stack(data)).sum().square(),
            width=0.5 + self.count,
            whole=torch.tensor(self.count),
        )
        logs.update(running=self.running, graph=self.weight.sum())
        if self.count % 4 == 1:
            logs['rare'] = torch.tensor(10.0 * self.count)
        optim_wrapper.update_params(logs['loss'])
        return logs


class Watch(Hook):
    """Notes after which iterations the message hub knew all losses."""

    def __init__(self):
        self.complete = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        losses = runner.message_hub.log_scalars.get('train/loss')
        if losses is not None and len(losses.data[0]) == runner.iter + 1:
            self.complete.append(runner.iter)


class SaveAt(Hook):
    """Saves a checkpoint after one iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.iteration:
            runner.save_checkpoint(runner.work_dir, 'middle.pth')


def train(work_dir, hook, interval, hooks=()):
    MessageHub._instance_dict.clear()
    torch.manual_seed(0)
    watch = Watch()
    runner = Runner(
        Model(),
        str(work_dir),
        train_dataloader=dict(
            dataset=torch.randn(BATCHES, 2, dtype=torch.float32),
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=1,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(runtime_info=dict(type=hook), logger=dict(type='LoggerHook', interval=interval)),
        custom_hooks=[watch, *hooks],
        experiment_name=work_dir.name,
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    )
    runner.train()
    return runner, watch


def log_of(runner, work_dir):
    file = next(work_dir.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: line[key] for key in (*NAMES, 'step') if key in line} for line in lines]


@pytest.mark.parametrize('interval', [1, 3, 7, 50])
def test_log_and_hub_equal_those_of_mmengine(tmp_path, interval):
    found = []
    for hook in ('RuntimeInfoHook', 'us3l_mm.DeferredRuntimeInfoHook'):
        work_dir = tmp_path / hook
        runner, _ = train(work_dir, hook, interval)
        scalars = runner.message_hub.log_scalars
        history = {name: scalars[f'train/{name}'].data[0].tolist() for name in NAMES}
        found.append((log_of(runner, work_dir), history))
    assert found[0] == found[1]
    assert len(found[0][1]['loss']) == BATCHES * EPOCHS
    assert len(found[0][1]['rare']) < BATCHES * EPOCHS


def test_values_are_handed_on_where_they_are_logged(tmp_path):
    _, watch = train(tmp_path / 'run', 'us3l_mm.DeferredRuntimeInfoHook', 3)
    assert watch.complete == [2, 5, 6, 9, 12, 13, 16, 19, 20]  # each third of an epoch, and its end


def test_checkpoint_in_the_middle_of_an_interval_has_all_values(tmp_path):
    runner, _ = train(tmp_path / 'run', 'us3l_mm.DeferredRuntimeInfoHook', 5, hooks=[SaveAt(8)])
    saved = CheckpointLoader.load_checkpoint(str(tmp_path / 'run' / 'middle.pth'))['message_hub']['log_scalars']
    whole = runner.message_hub.log_scalars['train/loss'].data[0].tolist()
    assert saved['train/loss'].data[0].tolist() == whole[:9]


def test_waiting_values_keep_no_graph(tmp_path):
    hook = DeferredRuntimeInfoHook()
    hook._intervals = [100]
    weight = torch.ones(2, requires_grad=True)
    runner = SimpleNamespace(train_dataloader=range(10), iter=0, max_iters=10)
    hook.after_train_iter(runner, 0, None, dict(loss=(weight * 2).sum()))
    assert not hook._waiting[0]['loss'].requires_grad
