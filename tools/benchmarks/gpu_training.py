"""Train the goal config for the time that gpu.py is given, and probe its widths."""

import argparse
import io
import math
import time
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from gpu_setup import CONFIGS, EPOCHS, ITERATIONS, ROOT, STAGES, Report, Setup, option
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from PIL import Image

from us3l_mm.config import OwnData, find_datasets, load_config
from us3l_mm.engine import ResumableRunner
from us3l_mm.evaluation import extract_features, frozen_rows
from us3l_mm.registry import DATASETS
from us3l_mm.slim import calibrate_bn

WIDTHS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25)
SPARE = 0.9  # share of the time to plan for
BATCHES = 100  # to calibrate on


@DATASETS.register_module()
class PackedImages(BaseDataset):
    """Images of ``*<split>*.npz``: ``bytes`` of all image files, their ``offsets``, ``labels`` and ``classes``."""

    def __init__(self, data_root: str, split: str, pipeline: list) -> None:
        self.files = sorted(Path(data_root).glob(f'*{split}*.npz'))
        if not self.files:
            raise FileNotFoundError(f'no *{split}*.npz in {data_root}; --data names a folder of cifar100_*.npz')
        self.kept = [dict(np.load(file)) for file in self.files]
        super().__init__(metainfo=dict(classes=tuple(map(str, self.kept[0]['classes']))), pipeline=pipeline)

    def load_data_list(self) -> list[dict]:
        def decode(item: tuple) -> dict:
            data, label = item
            return dict(img=np.asarray(Image.open(io.BytesIO(data)).convert('RGB')), gt_label=int(label))

        items = []
        for kept in self.kept:
            data, offsets = kept['bytes'].tobytes(), kept['offsets']
            items += [(data[a:b], label) for a, b, label in zip(offsets, offsets[1:], kept['labels'])]
        with ThreadPool() as pool:
            return pool.map(decode, items, chunksize=256)


def plan(report: Report, setup: Setup, minutes: float) -> tuple[str, int]:
    """Choose the fastest speed and the epochs that fit, by the times of the stages and of the views."""
    if setup.tiny:
        return 'eager', len(STAGES)
    found = {name: each for name, each in report.found.get('stages', {}).items() if len(each) == len(STAGES)}
    if not found:
        raise RuntimeError('the stages were not all measured, so the epochs that fit are unknown; give more --minutes')
    speed = min(found, key=lambda name: sum(found[name]))
    ms = sum(found[speed]) / len(STAGES) + report.found.get('views', 0)
    epochs = math.floor(SPARE * 6e4 * minutes / (ITERATIONS * ms))
    epochs = min(EPOCHS, max(len(STAGES), epochs // len(STAGES) * len(STAGES)))  # all stages of one length
    return speed, epochs


def goal_config(setup: Setup, speed: str, epochs: int, data: Path | None, work_dir: Path) -> Config:
    """Return the goal config for fewer epochs and data in a folder; widths from a grid, no monitor."""
    options = {'model.sampler.width_step': 0.05, **{f'model.{key}': value for key, value in option(speed).items()}}
    path = str(ROOT / CONFIGS['tiny' if setup.tiny else 'fast'])
    cfg = load_config(path, options, str(work_dir), own=OwnData(epochs=epochs))
    cfg.custom_hooks, cfg.overwrite = [], True
    if setup.tiny:
        return cfg
    for _, part in find_datasets(cfg, ['train_dataloader']):
        part.data_root = str(data)
        if list(data.glob('*.npz')):
            part.type = 'us3l_mm.PackedImages'
            part.pop('download', None)
    return cfg


def labelled(cfg: Config, split: str) -> Iterator[dict]:
    """Yield batches of labelled images of a split, as they are."""
    part = next(part for _, part in find_datasets(cfg, ['train_dataloader']))
    side = cfg.input_size if isinstance(cfg.input_size, int) else cfg.input_size[0]
    pipeline = [dict(type='Resize', scale=(side, side)), dict(type='PackInputs')]
    loader = dict(
        dataset={**part, 'split': split, 'pipeline': pipeline},
        batch_size=512,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    yield from Runner.build_dataloader(loader, seed=0)


def first_views(batches: Iterator[dict], preprocessor: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield the first view of some training batches, as calibrate_bn.py takes them."""
    for batch, _ in zip(batches, range(BATCHES)):
        inputs = preprocessor(batch, False)['inputs']
        yield inputs[0] if isinstance(inputs, (list, tuple)) else inputs


def train(report: Report, setup: Setup, args: argparse.Namespace) -> None:
    """Train, calibrate 9 widths, and add a row for each with linear and k-NN accuracy."""
    speed, epochs = plan(report, setup, args.train_minutes)
    cfg = goal_config(setup, speed, epochs, args.data, args.work_dir)
    report.add('epochs that fit', f'{epochs}, {speed}', epochs=epochs)
    runner = ResumableRunner.from_cfg(cfg)
    start = time.perf_counter()
    runner.train()
    minutes = (time.perf_counter() - start) / 60
    text, bar = f'{minutes:.2f} minutes, {60 * minutes / epochs:.2f} s an epoch', f'{EPOCHS} epochs in 25 minutes'
    report.add(f'training, {epochs} epochs, {speed}', text, bar, minutes / epochs <= 25 / EPOCHS, minutes=minutes)
    model = runner.model
    calibrate_bn(model.slimmable_part(), WIDTHS, first_views(runner.train_dataloader, model.data_preprocessor))
    splits = []
    for split in ('train', 'test'):
        features, labels = extract_features(model.backbone, WIDTHS, labelled(cfg, split), model.data_preprocessor)
        splits.append(({width: each.to(args.device) for width, each in features.items()}, labels.to(args.device)))
    for width in WIDTHS:
        (row,) = frozen_rows(*(({width: features[width]}, labels) for features, labels in splits))
        text = f'linear {row["top1"]:.1f} %, 20-NN {row["knn20"]:.1f} %'
        what = 'digits' if setup.tiny else 'CIFAR-100'
        report.add(f'{what} after {epochs} epochs, width {width:g}', text, **row)
