"""A data set in memory gives the images of another one, whole batches at a time, and trains US3L."""

from contextlib import suppress

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from builders import ROOT, SMALL_US3L
from us3l_mm.datasets import in_memory

pytestmark = pytest.mark.usefixtures('parse_once')

BASE = ROOT / 'configs/_base_'
DIGITS = dict(type='us3l_mm.Digits', split='train', per_class=4, pipeline=[])
VIEW = [
    dict(type='RandomResizedCrop', scale=16, crop_ratio_range=(0.4, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4),
]


def loader(**kwargs):
    return dict(
        batch_size=16,
        num_workers=0,
        drop_last=True,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='us3l_mm.take_batch'),
        dataset=dict(type='us3l_mm.InMemory', dataset=DIGITS),
        **kwargs,
    )


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('collate', ['pseudo_collate', 'default_collate'])
def test_collate_functions_of_single_images_are_refused(collate):
    cfg = {**loader(), 'collate_fn': dict(type=collate)}
    with pytest.raises(KeyError, match='gives whole batches: set collate_fn'):
        next(iter(Runner.build_dataloader(cfg, seed=3)))


@pytest.mark.usefixtures('mmpretrain_scope')
def test_batches_are_those_of_the_data_set_it_was_made_of():
    source = DATASETS.build(DIGITS)
    batches = list(Runner.build_dataloader(loader(), seed=3))
    plain = dict(dataset={**DIGITS, 'pipeline': [dict(type='PackInputs')]}, collate_fn=dict(type='default_collate'))
    expected = list(Runner.build_dataloader({**loader(), **plain}, seed=3))
    assert len(batches) == len(expected) == len(source) // 16 == 2
    for batch, other in zip(batches, expected):
        assert batch['inputs'].dtype == torch.uint8 and batch['inputs'].is_contiguous()
        assert torch.equal(batch['inputs'], other['inputs'])


@pytest.mark.usefixtures('mmpretrain_scope')
def test_one_image_and_part_of_an_epoch():
    dataset = DATASETS.build(dict(type='us3l_mm.InMemory', dataset=DIGITS))
    assert dataset.metainfo['classes'] == tuple('0123456789')
    assert torch.equal(dataset[5]['inputs'], dataset.__getitems__([4, 5])['inputs'][1])
    (batch,) = Runner.build_dataloader(loader(num_batch_per_epoch=1), seed=0)
    assert batch['inputs'].shape == (16, 3, 8, 8)


@pytest.mark.usefixtures('mmpretrain_scope')
def test_images_lie_where_mmengine_trains(monkeypatch):
    """Tensors without memory stand for those of a GPU."""
    monkeypatch.setattr(in_memory, 'get_device', lambda: 'meta')
    cfg = loader()
    batch = next(iter(Runner.build_dataloader(cfg, seed=0)))
    assert batch['inputs'].is_cpu
    cfg['dataset']['device'] = 'auto'
    batch = next(iter(Runner.build_dataloader(cfg, seed=0)))
    assert batch['inputs'].is_meta and batch['inputs'].shape == (16, 3, 8, 8)


@pytest.mark.slow
@pytest.mark.usefixtures('mmpretrain_scope')
def test_workers_are_refused_where_they_cannot_read(monkeypatch):
    monkeypatch.setattr(in_memory, 'get_device', lambda: 'meta')
    cfg = {**loader(), 'num_workers': 1}
    cfg['dataset']['device'] = 'auto'
    with pytest.raises(ValueError, match='workers cannot read .*on meta: set num_workers=0'):
        next(iter(Runner.build_dataloader(cfg, seed=0)))


@pytest.mark.gpu
@pytest.mark.usefixtures('mmpretrain_scope')
def test_gpu_gives_the_same_batches_without_waiting():
    expected = list(Runner.build_dataloader(loader(), seed=3))
    cfg = loader()
    cfg['dataset']['device'] = 'auto'
    batches = Runner.build_dataloader(cfg, seed=3)
    torch.cuda.set_sync_debug_mode('error')
    try:
        found = list(batches)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert len(found) == len(expected)
    for batch, other in zip(found, expected):
        assert batch['inputs'].is_cuda and torch.equal(batch['inputs'].cpu(), other['inputs'])


def save(folder, *sizes):
    for i, size in enumerate(sizes):
        cv2.imwrite(str(folder / f'{i}.png'), np.full((*size, 3), 10 * i + 5, np.uint8))
    load = [dict(type='LoadImageFromFile')]
    return dict(type='CustomDataset', data_root=str(folder), with_label=False, pipeline=load)


@pytest.mark.usefixtures('mmpretrain_scope')
def test_files_are_read_and_resized_once(tmp_path):
    source = save(tmp_path, (20, 12), (9, 9))
    source['pipeline'] += [dict(type='Resize', scale=(8, 6))]
    dataset = DATASETS.build(dict(type='us3l_mm.InMemory', dataset=source))
    assert dataset.images.shape == (2, 3, 6, 8) and dataset.images[1].unique().tolist() == [15]


@pytest.mark.usefixtures('mmpretrain_scope')
def test_unlike_images_are_refused(tmp_path):
    source = save(tmp_path, (20, 12), (9, 9))
    with pytest.raises(ValueError, match=r"'img' of image 1 of CustomDataset must be.*got uint8 \(9, 9, 3\).*resize"):
        DATASETS.build(dict(type='us3l_mm.InMemory', dataset=source))
    for pipeline in ([], [*source['pipeline'], dict(type='PackInputs')]):
        with pytest.raises(ValueError, match="'img' of image 0.*got NoneType; load"):
            DATASETS.build(dict(type='us3l_mm.InMemory', dataset={**source, 'pipeline': pipeline}))


class Record(Hook):
    """Notes losses; stops the run before an epoch, as a lost machine does."""

    def __init__(self, stop):
        self.losses, self.stop = [], stop

    def before_train_epoch(self, runner):
        if runner.epoch == self.stop:
            raise KeyboardInterrupt

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())


def train(work_dir, stop=None, resume=False):
    """Two epochs of two iterations of US3L on digits; its losses and parameters."""
    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()
    torch.manual_seed(int(resume) + 17)
    cfg = Config()
    for part in ('models/us3l_nce', 'default_runtime'):
        cfg.merge_from_dict(Config.fromfile(BASE / f'{part}.py').to_dict())
    views = dict(type='us3l_mm.BatchedViewsPreprocessor', transforms=[VIEW])
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            resume=resume,
            log_level='WARNING',
            vis_backends=[],
            visualizer=dict(vis_backends=[]),
            train_dataloader=loader(),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            default_hooks=dict(checkpoint=dict(interval=1)),
            model=dict(
                data_preprocessor={**views, 'mean': [80.0] * 3, 'std': [90.0] * 3, 'to_rgb': False},
                **SMALL_US3L,
            ),
        )
    )
    runner = Runner.from_cfg(cfg)
    record = Record(stop)
    runner.register_hook(record)
    with suppress(KeyboardInterrupt):
        runner.train()
    return record.losses, runner.model.state_dict()


@pytest.mark.slow
def test_us3l_trains_and_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    losses, expected = train(tmp_path / 'whole')
    before, _ = train(tmp_path / 'parts', stop=1)
    after, resumed = train(tmp_path / 'parts', resume=True)
    assert len(losses) == len(set(losses)) == 4 and [*before, *after] == losses
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
