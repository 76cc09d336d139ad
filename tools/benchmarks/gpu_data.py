"""How fast views are made and images are loaded: two parts of gpu.py."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import augmentation
import decode
import numpy as np
import torch
from gpu_setup import CONFIGS, ROOT, Report, Setup
from mmengine.registry import MODELS, init_default_scope
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
    sizes = dict(images=32, batch=16, workers=0, repeats=1) if setup.tiny else dict(images=2048, workers=16, repeats=3)
    for row in run_script(augmentation, dict(sizes, device=setup.device)):
        speed, way = row['images_per_s'], row['way']
        bar, met = ('100000', speed >= 1e5) if way == 'batched' else ('', None)
        report.add(f'two-view images/s with loading, {way}', f'{speed:.0f}', bar, met, row=row)


def loader(report: Report, setup: Setup) -> None:
    """Measure how fast JPEGs are decoded, and the loaders of ImageNet's configs with 8 and 16 workers."""
    need = report.found.get('r50')
    sizes = (
        dict(images=4, repeats=1, batch=4, side=32, workers=[0])
        if setup.tiny
        else dict(images=20, repeats=3, workers=[8, 16])
    )
    for row in run_script(decode, sizes):
        speed, workers = row['images_per_s'], row.get('workers')
        bar, met = (f'{need:.0f}, what R50 trains on', speed >= need) if need and workers else ('', None)
        what = f'{row["table"]}, images/s, {row["way"]}' + ('' if workers is None else f', {workers} workers')
        report.add(what, f'{speed:.0f}', bar, met, row=row)


def run_script(script: ModuleType, options: dict) -> Iterator[dict]:
    """Run the main function of another benchmark, and yield the rows that it wrote, also if it was cut off."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'rows.json')
        argv = [script.__name__, '--out', str(out)]
        for key, value in options.items():
            argv += [f'--{key}', *map(str, value if isinstance(value, list) else [value])]
        error = None
        try:
            with patch.object(sys, 'argv', argv):
                script.main()
        except BaseException as found:  # the alarm, too
            error = found
        yield from json.loads(out.read_text())['rows'] if out.exists() else []
        if error is not None:
            raise error
