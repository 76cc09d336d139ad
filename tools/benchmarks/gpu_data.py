"""How fast views are made and images are loaded: two parts of gpu.py."""

import json
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import augmentation
import cv2
import numpy as np
import torch
from decode import write_jpegs
from gpu_setup import CONFIGS, ROOT, Report, Setup
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from timing import alternate
from timing import kernels as profile_kernels
from training import set_time

from us3l_mm.config import read_config


def batch_of_images(count: int) -> torch.Tensor:
    """Draw uint8 images of the size of CIFAR's, (N, 3, 32, 32)."""
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, (count, 3, 32, 32), np.uint8))


def build_preprocessor() -> torch.nn.Module:
    """Build what makes the views of the goal config, at the start of a training."""
    init_default_scope('mmpretrain')
    set_time(0, 1)
    return MODELS.build(read_config(str(ROOT / CONFIGS['fast'])).model.data_preprocessor)


def time_views(setup: Setup) -> tuple[float, float, int]:
    """Measure two views of a batch on the device: its time and that of its kernels (ms), and the images."""
    count = 16 if setup.tiny else 512
    batch, preprocessor = batch_of_images(count).to(setup.device), build_preprocessor().to(setup.device)

    def run() -> None:
        preprocessor(dict(inputs=batch), True)

    args = setup.args()
    ms = alternate({'views': run}, 2 * args.repeats, args.warmup, setup.device)['views']
    return ms, sum(row['ms'] for row in profile_kernels(run, setup.device)), count


def views(report: Report, setup: Setup) -> None:
    """Measure the views alone, then with loading and transfer beside mmpretrain's pipeline."""
    ms, busy, count = time_views(setup)
    text = f'{ms:.2f} ms, {1e3 * count / ms:.0f} images/s (kernels {busy:.2f} ms)'
    report.add(f'two views of {count} images on the device', text, '5.1 ms', ms <= 5.1, ms=ms, kernels=busy)
    with report.attempt('augmentation.py'), tempfile.TemporaryDirectory() as folder:
        sizes = dict(images=32, batch=16, workers=0, repeats=1) if setup.tiny else dict(images=10240, workers=16)
        options = [f'--{key}={value}' for key, value in sizes.items()]
        out = Path(folder, 'views.json')
        with patch.object(sys, 'argv', ['augmentation.py', '--device', setup.device, '--out', str(out), *options]):
            augmentation.main()
        for row in json.loads(out.read_text())['rows']:
            text = ', '.join(f'{key} {value:.4g}' for key, value in row.items() if isinstance(value, (int, float)))
            speed = row.get('batched')
            bar, met = ('batched 100000 images/s', speed >= 1e5) if speed else ('', None)
            report.add('augmentation.py: two-view images/s with loading', text, bar, met, row=row)


def loader(report: Report, setup: Setup) -> None:
    """Measure the loaders of the R50 configs with 8 and 16 workers, on JPEGs in the page cache."""
    cv2.setNumThreads(0)
    init_default_scope('mmpretrain')
    need = report.found.get('r50')
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder), 4 if setup.tiny else 256, (500, 375), 90)
        for config in sorted(ROOT.glob(CONFIGS['r50'].replace('.py', '*.py'))):
            for workers in (0,) if setup.tiny else (8, 16):
                what = f'two-view images/s, {config.name}, {workers} workers'
                with report.attempt(what):
                    speed = loading_speed(setup, config, folder, workers)
                    bar, met = (f'{need:.0f}, what R50 trains on', speed >= need) if need else ('', None)
                    report.add(what, f'{speed:.0f}', bar, met, images_per_s=speed)


def loading_speed(setup: Setup, config: Path, folder: str, workers: int) -> float:
    """Measure the images/s of a config's loader over the images of a folder, which are repeated."""
    cfg = read_config(str(config)).train_dataloader
    batch, times = (4, 1) if setup.tiny else (64, 2 * workers)
    images = dict(type='CustomDataset', data_root=folder, with_label=False, pipeline=cfg.dataset.pipeline)
    repeated = dict(type='RepeatDataset', dataset=images, times=times)
    options = dict(batch_size=batch, num_workers=workers, persistent_workers=workers > 0, dataset=repeated)
    batches, spent = Runner.build_dataloader({**cfg, **options}, seed=0), []
    for _ in range(1 if setup.tiny else 3):  # the first one starts the workers
        start = time.perf_counter()
        seen = batch * sum(1 for _ in batches)
        spent.append(time.perf_counter() - start)
    return seen / min(spent)
