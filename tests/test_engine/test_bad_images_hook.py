"""Images that were skipped are listed at the end of a training; a test skips none."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image

from us3l_mm.engine import ResumableRunner, bad_images_hook

STEP = dict(type='LoadImageFromFile', _scope_='us3l_mm')
SKIP = dict(STEP, on_bad_image='skip')


class Mean(BaseModel):
    """One weight, so that there is something to train."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        images = torch.stack([image.float() for image in inputs])
        return dict(loss=(self.weight * images).mean()) if mode == 'loss' else data_samples


@pytest.fixture
def train(tmp_path):
    """Train on folders of images, two epochs; ``folders`` says how many good and bad images each has."""
    lists = set(Path(tempfile.gettempdir()).glob('us3l_mm_bad_images_*'))

    def folder(name, good, bad):
        (tmp_path / name).mkdir(exist_ok=True)
        for i in range(good):
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / name / f'good{i}.png')
        for i in range(bad):
            (tmp_path / name / f'bad{i}.png').write_bytes(b'')
        return dict(type='CustomDataset', data_root=str(tmp_path / name), with_label=False)

    def loader(dataset, num_workers=0):
        return dict(
            batch_size=2,
            num_workers=num_workers,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        )

    def run(folders=((4, 2),), val_step=None, job='train', kind=Runner, num_workers=0):
        pack = dict(type='PackInputs')
        parts = [dict(folder(f'train{i}', *counts), pipeline=[SKIP, pack]) for i, counts in enumerate(folders)]
        options = {}
        if val_step:
            part = loader(dict(folder('val', 2, 0), pipeline=[val_step, pack]))
            evaluator = dict(type='DumpResults', out_file_path=str(tmp_path / 'results.pkl'))
            options = dict(val_dataloader=part, val_cfg={}, val_evaluator=evaluator)
            options.update(test_dataloader=part, test_cfg={}, test_evaluator=evaluator)
        runner = kind(
            Mean(),
            str(tmp_path / 'work'),
            loader(dict(type='ConcatDataset', datasets=parts), num_workers),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='us3l_mm.BadImagesHook')] if kind is Runner else None,  # ours has it anyway
            default_scope='mmpretrain',
            **options,
        )
        getattr(runner, job)()
        return runner

    yield run
    assert set(Path(tempfile.gettempdir()).glob('us3l_mm_bad_images_*')) == lists  # none is left behind


@pytest.mark.parametrize('kind, num_workers', [(Runner, 0), (ResumableRunner, 2)])
def test_bad_images_of_all_parts_are_listed(train, tmp_path, kind, num_workers):
    runner = train(folders=((4, 2), (3, 1)), kind=kind, num_workers=num_workers)
    lines = (tmp_path / 'work/bad_images.txt').read_text().splitlines()
    names = {f'train0{os.sep}bad0.png', f'train0{os.sep}bad1.png', f'train1{os.sep}bad0.png'}
    assert len(lines) == 3 and all(any(name in line and 'empty' in line for line in lines) for name in names)
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert f'3 bad images were skipped; {tmp_path}/work/bad_images.txt lists them' in log
    assert log.count('skipped: cannot load the image') == 3  # each once, in two epochs


def test_good_images_need_no_list(train, tmp_path):
    train(folders=((4, 0),))
    assert not (tmp_path / 'work/bad_images.txt').exists()


@pytest.mark.parametrize('job, name', [('train', 'val'), ('val', 'val'), ('test', 'test')])
def test_tests_skip_none(train, job, name):
    with pytest.raises(ValueError, match=f"{name}_dataloader has on_bad_image='skip'.*'skip' is for training"):
        train(val_step=SKIP, job=job)


@pytest.mark.parametrize('job', ['train', 'val', 'test'])
def test_tests_that_stop_run(train, job):
    train(val_step=STEP, job=job)


@pytest.mark.parametrize('rank', [0, 1])
def test_first_process_lists_those_of_all(train, tmp_path, monkeypatch, rank):
    """Each process has counted its own."""
    others = [{'elsewhere.png': 'cannot load the image elsewhere.png: empty'}]
    monkeypatch.setattr(bad_images_hook, 'all_gather_object', lambda own: [own, others])
    monkeypatch.setattr(bad_images_hook, 'is_main_process', lambda: rank == 0)
    train()
    path = tmp_path / 'work/bad_images.txt'
    assert path.exists() == (rank == 0)
    if rank == 0:
        assert [name in path.read_text() for name in ('bad0.png', 'bad1.png', 'elsewhere.png')] == [True] * 3
