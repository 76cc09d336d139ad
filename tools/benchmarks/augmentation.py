"""Measure images per second of two views: ours, torchvision's, kornia's if it is installed, and mmpretrain's pipeline.

python tools/benchmarks/augmentation.py --workers 1
python tools/benchmarks/augmentation.py --device cuda --workers 16 --images 10240

The views are those of a data set's config, CIFAR's by default; the images are noise, because no operation depends on
their content. All ways include loading, transfer to the device and normalisation. Each takes turns with ours, so the
ratio of both is right where other programs disturb. The last columns are differences from OpenCV (or Pillow, as the
config says) of crops, and from Pillow of brightness, contrast and saturation, in levels of 255.
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from timing import alternate, arguments, describe, print_row, save

import us3l_mm  # noqa: F401  before anything of mmcv.ops

ROOT = Path(__file__).parents[2]
PIXELS = dict(mean=[125.0, 122.0, 114.0], std=[52.0, 51.0, 51.0], to_rgb=True, non_blocking=True)
COMPARED = 64  # images whose values are compared


@DATASETS.register_module(force=True)  # scripts may be loaded several times in one process
class Noise(BaseDataset):
    """Images without content, as mmpretrain's CIFAR holds them."""

    def __init__(self, images: int, side: int, pipeline: list) -> None:
        self.shape = images, side, side, 3
        super().__init__(pipeline=pipeline)

    def load_data_list(self) -> list[dict]:
        return [dict(img=image) for image in np.random.RandomState(0).randint(0, 256, self.shape, np.uint8)]


@dataclass
class Way:
    """How views are made.

    Attributes:
        own_draws (str): What each image draws for itself.
        epoch (Callable): Makes the views of ``images`` images.
        images (int): Images of an epoch.
        crop (Callable, optional): For ``crop_error``; None: the reference.
        colours (Callable): For ``colour_error``.
    """

    own_draws: str
    epoch: Callable[[], None]
    images: int
    crop: Callable | None
    colours: Callable


def parse_args() -> argparse.Namespace:
    parser = arguments(__doc__, images=2048, side=32, batch=512, workers=2, repeats=7)
    parser.add_argument('--config', default='configs/_base_/datasets/cifar100_us3l.py', help='(default: %(default)s)')
    args = parser.parse_args()
    if args.images < args.batch:
        parser.error(f'--images must be at least --batch, got {args.images} and {args.batch}')
    return args


def epoch_of(args: argparse.Namespace, loader: dict, preprocessor: Callable) -> Callable[[], None]:
    """Return a function that loads batches and makes their views."""
    common = dict(batch_size=args.batch, sampler=dict(type='DefaultSampler', shuffle=True), drop_last=True)
    batches = Runner.build_dataloader({**common, **loader}, seed=0)

    def run() -> None:
        for iteration, batch in enumerate(batches):
            MessageHub.get_current_instance().update_info('iter', iteration)
            preprocessor(batch, True)

    return run


def of_library(views: Callable, args: argparse.Namespace, one_by_one: bool = False) -> Callable:
    """Return a preprocessor that makes and normalises views by a function of floats (N, 3, H, W) in [0, 1]."""
    mean, std = (torch.tensor(PIXELS[name], device=args.device).view(3, 1, 1) for name in ('mean', 'std'))

    @torch.no_grad()
    def preprocessor(data: dict, training: bool) -> list[torch.Tensor]:
        images = data['inputs'].to(args.device, non_blocking=True).flip(1).float() / 255
        made = [torch.stack([views(image) for image in images]) if one_by_one else views(images) for _ in range(2)]
        return [(view * 255 - mean) / std for view in made]

    return preprocessor


def ways(args: argparse.Namespace, view: list[dict]) -> dict[str, Way]:
    """Return all ways, ours first."""
    import view_libraries as library

    noise = dict(type='Noise', images=args.images, side=args.side)
    views = dict(type='MultiView', num_views=2, transforms=[view])
    memory = dict(type='us3l_mm.InMemory', dataset=dict(**noise, pipeline=[]))
    memory['device'] = 'cpu' if args.device == 'cpu' else 'auto'
    held = dict(dataset=memory, num_workers=0, collate_fn=dict(type='us3l_mm.take_batch'))
    loaded = dict(
        dataset=dict(**noise, pipeline=[views, dict(type='PackInputs')]),
        num_workers=args.workers,
        persistent_workers=args.workers > 0,  # to measure without their start
        pin_memory=args.device != 'cpu',
        collate_fn=dict(type='default_collate'),
    )
    ours = MODELS.build({**views, 'type': 'us3l_mm.BatchedViewsPreprocessor', **PIXELS}).to(args.device)
    seeded = torch.Generator().manual_seed(0)
    pipeline = MODELS.build(dict(type='SelfSupDataPreprocessor', **PIXELS)).to(args.device)
    images = args.images // args.batch * args.batch
    run, few = partial(epoch_of, args), dict(num_batch_per_epoch=1)  # slow ways make the views of one batch
    tv, tv_crop = library.torchvision_views, library.torchvision_crop
    no_graph = {}
    if args.device != 'cpu':
        eager = run(held, lambda data, training: ours.make_views(data['inputs'], *ours.draw([data['inputs']], seeded)))
        no_graph['batched, no graph'] = Way('yes', eager, images, library.our_crop, library.our_views)
    found = {
        'batched': Way('yes', run(held, ours), images, library.our_crop, library.our_views),
        **no_graph,
        'torchvision.v2, batch': Way('no, of a batch', run(held, of_library(tv(view), args)), images, tv_crop, tv),
        'torchvision.v2, each image': Way(
            'yes', run({**held, **few}, of_library(tv(view), args, True)), args.batch, tv_crop, tv
        ),
    }
    for mode in ('resample', 'slice') if importlib.util.find_spec('kornia') else ():
        kornia = partial(library.kornia_views, cropping_mode=mode)
        epoch = run({**held, **few}, of_library(kornia(view), args))
        found[f'kornia, {mode}'] = Way(
            'yes, but one order of colours', epoch, args.batch, library.kornia_crop(mode), kornia
        )
    found['pipeline'] = Way('yes', run(loaded, pipeline), images, None, library.pipeline_views)
    return found


def measure(args: argparse.Namespace, name: str, way: Way, ours: Way, crop: dict) -> dict:
    """Compare a way with ours, and with OpenCV and Pillow."""
    from view_libraries import colour_error, crop_error

    times = alternate({'batched': ours.epoch, name: way.epoch}, args.repeats, 2, args.device)
    speeds = {'batched': 1e3 * ours.images / times['batched'], name: 1e3 * way.images / times[name]}
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (COMPARED, 3, args.side, args.side), dtype=torch.uint8).to(args.device)
    return dict(
        way=name,
        images_per_s=speeds[name],
        batched=speeds['batched'],
        ratio=speeds['batched'] / speeds[name],
        own_draws=way.own_draws,
        crop_error=crop_error(way.crop, noise, crop) if way.crop else 0.0,
        colour_error=colour_error(way.colours, noise),
    )


def main() -> None:
    args = parse_args()
    init_default_scope('mmpretrain')
    view = Config.fromfile(ROOT / args.config).to_dict()['view']
    describe(args)
    head = ['two views by', 'images/s', 'batched is faster by', 'own draws of each image', 'crop', 'colours']
    print_row(head, head=True)
    found, rows = ways(args, view), []
    for name, way in found.items():
        row = measure(args, name, way, found['batched'], view[0])
        rows.append(row)
        speed = [f'{row["images_per_s"]:.0f}', f'{row["ratio"]:.2f}']
        print_row([name, *speed, row['own_draws'], *(f'{row[f"{kind}_error"]:.2f}' for kind in ('crop', 'colour'))])
        save(args, rows)


if __name__ == '__main__':
    main()
