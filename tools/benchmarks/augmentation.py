"""Measure images per second of two views: mmpretrain's pipeline image by image, and batched augmentation in memory.

python tools/benchmarks/augmentation.py --workers 1
python tools/benchmarks/augmentation.py --device cuda --workers 16 --images 10240

The views are those of a data set's config, CIFAR's by default; the images are noise, because no operation depends on
their content. Both ways include loading, transfer to the device and normalisation. They take turns in one process.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from timing import alternate, arguments, describe, print_row, save

import us3l_mm  # noqa: F401  before anything of mmcv.ops

ROOT = Path(__file__).parents[2]


@DATASETS.register_module()
class Noise(BaseDataset):
    """Images without content, as mmpretrain's CIFAR holds them."""

    def __init__(self, images: int, side: int, pipeline: list) -> None:
        self.shape = images, side, side, 3
        super().__init__(pipeline=pipeline)

    def load_data_list(self) -> list[dict]:
        return [dict(img=image) for image in np.random.RandomState(0).randint(0, 256, self.shape, np.uint8)]


def parse_args() -> argparse.Namespace:
    parser = arguments(__doc__, images=2048, side=32, batch=512, workers=2, repeats=7)
    parser.add_argument('--config', default='configs/_base_/datasets/cifar100_us3l.py', help='(default: %(default)s)')
    args = parser.parse_args()
    if args.images < args.batch:
        parser.error(f'--images must be at least --batch, got {args.images} and {args.batch}')
    return args


def epochs(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Return for each way a function that runs an epoch."""
    view = Config.fromfile(ROOT / args.config).view
    noise = dict(type='Noise', images=args.images, side=args.side)
    views = dict(type='MultiView', num_views=2, transforms=[view])
    common = dict(batch_size=args.batch, sampler=dict(type='DefaultSampler', shuffle=True), drop_last=True)
    common['pin_memory'] = args.device != 'cpu'
    loaders = dict(
        pipeline=dict(
            dataset=dict(**noise, pipeline=[views, dict(type='PackInputs')]),
            num_workers=args.workers,
            persistent_workers=args.workers > 0,  # to measure without their start
            collate_fn=dict(type='default_collate'),
        ),
        batched=dict(
            dataset=dict(type='us3l_mm.InMemory', dataset=dict(**noise, pipeline=[])),
            num_workers=0,
            collate_fn=dict(type='us3l_mm.take_batch'),
        ),
    )
    pixels = dict(mean=[125.0, 122.0, 114.0], std=[52.0, 51.0, 51.0], to_rgb=True, non_blocking=True)
    preprocessors = dict(
        pipeline=dict(type='SelfSupDataPreprocessor', **pixels),
        batched={**views, 'type': 'us3l_mm.BatchedViewsPreprocessor', **pixels},
    )

    def epoch_of(name: str) -> Callable[[], None]:
        loader = Runner.build_dataloader({**common, **loaders[name]}, seed=0)
        preprocessor = MODELS.build(preprocessors[name]).to(args.device)

        def run() -> None:
            for iteration, batch in enumerate(loader):
                MessageHub.get_current_instance().update_info('iter', iteration)
                preprocessor(batch, True)

        return run

    return {name: epoch_of(name) for name in loaders}


def main() -> None:
    args = parse_args()
    init_default_scope('mmpretrain')
    times = alternate(epochs(args), args.repeats, 1, args.device)
    speeds = {name: 1e3 * (args.images // args.batch * args.batch) / time for name, time in times.items()}
    describe(args)
    print_row(['pipeline (images/s)', 'batched (images/s)', 'ratio of medians'], head=True)
    ratio = speeds['batched'] / speeds['pipeline']
    print_row([f'{speeds["pipeline"]:.0f}', f'{speeds["batched"]:.0f}', f'{ratio:.2f}'])
    save(args, [dict(speeds, ratio=ratio)])


if __name__ == '__main__':
    main()
