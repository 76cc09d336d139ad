"""A pretraining on digits that takes seconds, as a process as good as new would run it."""

import contextlib

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from builders import ROOT, SMALL_US3L
from us3l_mm.engine import ResumableRunner

BASE = ROOT / 'configs/_base_'
LABELLED = dict(
    type='us3l_mm.Digits',
    split='test',
    pipeline=[dict(type='Resize', scale=16, interpolation='bicubic'), dict(type='PackInputs')],
)
SMALL = dict(backbone=SMALL_US3L['backbone'], neck=dict(in_channels=32, hid_channels=64, out_channels=64))


def train_small(work_dir, hooks=(), model='us3l_nce', parts=None, cost=True, **options):
    """Train 4 epochs of 3 iterations; return the Runner, also after a KeyboardInterrupt."""
    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()
    torch.manual_seed(3)  # the Runner has to do without what was there before
    cfg = Config()
    for part in (f'models/{model}', 'datasets/digits_us3l', 'default_runtime'):
        cfg.merge_from_dict(Config.fromfile(BASE / f'{part}.py').to_dict())
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            train_dataloader=dict(batch_size=8, num_workers=0, dataset=dict(per_class=3)),
            train_cfg=dict(by_epoch=True, max_epochs=4),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0)),
            default_hooks=dict(checkpoint=dict(interval=2), logger=dict(interval=3)),
            model={**SMALL, **(parts or {})},
        )
    )
    cfg.merge_from_dict(options)
    if not cost:
        del cfg.default_hooks['cost']
    runner = ResumableRunner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    with contextlib.suppress(KeyboardInterrupt):
        runner.train()
    return runner


@pytest.fixture(scope='session')
def labelled():
    """Config of labelled digits."""
    return LABELLED


@pytest.fixture(scope='session')
def small_training():
    """:func:`train_small`."""
    return train_small
