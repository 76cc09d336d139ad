"""Measure how many images a second are decoded, cropped, and loaded by the data loaders of ImageNet's configs.

python tools/benchmarks/decode.py --workers 0 1 2
python tools/benchmarks/decode.py --size 2048 1536 --images 8
python tools/benchmarks/decode.py --workers 8 16 --need 1500

The JPEGs are noise with the spectrum of photographs, of ImageNet's usual size in pixels and bytes, in a temporary
folder and so in the page cache. Ways without their package are left out and named. The first tables are of one core's
time, without that of other programs; ways take turns. The last table is of whole loaders, one after the other, by the
clock: of each worker the second batch is measured, not the first.
"""

import argparse
import os
import random
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.fileio import LmdbBackend, LocalBackend
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from timing import arguments, describe, print_row, save
from torchvision.io import decode_jpeg

from us3l_mm.datasets import LoadImageFromFile
from us3l_mm.datasets.image_bytes import decode_reduced
from us3l_mm.utils.arguments import count_from, number_in

BASE = Path(__file__).parents[2] / 'configs/_base_/datasets'


def parse_args() -> argparse.Namespace:
    parser = arguments(__doc__, images=40, side=224, batch=256, quality=90, repeats=5)
    parser.add_argument(
        '--size', type=count_from(1), nargs=2, default=(500, 375), help='width, height (default: 500 375)'
    )
    cores = os.cpu_count() or 1
    parser.add_argument(
        '--workers',
        type=count_from(0),
        nargs='*',
        default=sorted({1, max(cores // 2, 1), cores}),
        help='numbers of workers, such as 8 16; none leaves loaders out (default: %(default)s)',
    )
    parser.add_argument('--need', type=number_in('(0, inf)'), help='images/s that an iteration takes, to compare with')
    return parser.parse_args()


def write_jpegs(folder: Path, args: argparse.Namespace) -> list[Path]:
    """Write colour JPEGs whose amplitudes fall with the frequency, and return their paths."""
    noise, paths = np.random.RandomState(0), []
    width, height = args.size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 1 / width
    for number in range(args.images):
        spectrum = np.fft.rfft2(noise.randn(4, height, width)) / frequency**1.1
        waves = np.fft.irfft2(spectrum, s=(height, width))
        waves /= waves.std((1, 2), keepdims=True)
        image = 120 + 55 * waves[3] + 15 * waves[:3]  # channels differ little, as in photographs
        paths.append(folder / f'{number}.jpg')
        pixels = np.ascontiguousarray(image.clip(0, 255).transpose(1, 2, 0).astype(np.uint8))
        cv2.imwrite(str(paths[-1]), pixels, [cv2.IMWRITE_JPEG_QUALITY, args.quality])
    return paths


def decoders() -> dict[str, Callable[[bytes], object]]:
    """Return functions from the bytes of a file to its pixels, by name."""
    ways = {
        'mmcv, cv2': lambda data: mmcv.imfrombytes(data, backend='cv2'),
        'cv2, a half of height and width': lambda data: decode_reduced(data, 2),
        'cv2, a quarter': lambda data: decode_reduced(data, 4),
        'mmcv, pillow': lambda data: mmcv.imfrombytes(data, backend='pillow'),
        'torchvision': lambda data: decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)),
    }
    if find_spec('turbojpeg'):
        mmcv.use_backend('turbojpeg')
        ways['mmcv, turbojpeg'] = lambda data: mmcv.imfrombytes(data, backend='turbojpeg')
    return ways


def readers(folder: Path, paths: list[Path]) -> dict[str, Callable[[Path], bytes]]:
    """Return functions from the path of an image to its bytes, by name."""
    local = LocalBackend()
    shard = folder / 'shard.tar'
    with tarfile.open(shard, 'w') as writer:
        for path in paths:
            writer.add(path, path.name)

    def in_order() -> Iterator[bytes]:
        while True:
            with tarfile.open(shard) as reader:
                yield from (reader.extractfile(member).read() for member in reader)

    members = in_order()
    ways = {'files': lambda path: local.get(path), 'shard (tar), in order': lambda path: next(members)}
    if find_spec('lmdb'):
        import lmdb

        with lmdb.open(str(folder / 'images.lmdb'), map_size=2**30) as database, database.begin(write=True) as writer:
            for path in paths:
                writer.put(path.name.encode(), path.read_bytes())
        backend = LmdbBackend(str(folder / 'images.lmdb'))
        ways['LMDB'] = lambda path: bytes(backend.get(path.name))
    return ways


def loading() -> dict[str, Callable[[Path], dict]]:
    """Return the loading transforms, as functions of a path, by name."""
    mmcvs, ours = mmcv.transforms.LoadImageFromFile(), LoadImageFromFile()
    return {
        'mmcv.LoadImageFromFile': lambda path: mmcvs(dict(img_path=str(path))),
        'us3l_mm.LoadImageFromFile': lambda path: ours(dict(img_path=str(path))),
    }


def pipelines(side: int) -> dict[str, list[dict]]:
    """Return pipelines that load, make two views and pack them, by name."""
    whole, fast = (Config.fromfile(BASE / f'imagenet_us3l{name}.py').train_dataloader for name in ('', '_fast'))
    load, views, pack = whole.dataset.pipeline
    crop = views.transforms[0][0]
    crop.scale = fast.dataset.pipeline[0].scale = side

    def crops(**options) -> list[dict]:
        return [load, {**views, 'transforms': [[{**crop, **options}]]}, pack]

    return {
        'LoadImageFromFile, crops by Pillow': crops(),
        'LoadImageFromFile, crops by cv2': crops(backend='cv2'),
        'LoadResizedCrops, in full': [{**fast.dataset.pipeline[0], 'reduce': False}, pack],
        'imagenet_us3l_fast.py (LoadResizedCrops)': list(fast.dataset.pipeline),
        'imagenet_us3l.py (all in the workers)': list(whole.dataset.pipeline),
    }


def measure(ways: dict[str, Callable], items: list, repeats: int) -> dict[str, float]:
    """Measure the median images/s of each way; they take turns at each item, in random order, to be disturbed alike."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in items] for name in ways}
    order = random.Random(0)
    for repeat in range(repeats + 1):
        for number, item in enumerate(items):
            for name in order.sample(list(ways), len(ways)):
                start = time.thread_time()
                ways[name](item)
                if repeat:  # the first one warms up
                    times[name][number].append(time.thread_time() - start)
    return {name: len(items) / sum(map(statistics.median, values)) for name, values in times.items()}


def measure_loader(pipeline: list[dict], paths: list[Path], workers: int, args: argparse.Namespace) -> float:
    """Return the images/s of a data loader with the options of our config."""
    batches = 2 * max(workers, 1)
    names = [path.name for path in paths] * (1 + batches * args.batch // len(paths))
    listed = paths[0].with_name('names.txt')
    listed.write_text(''.join(f'{name}\n' for name in names[: batches * args.batch]))
    options = dict(Config.fromfile(BASE / 'imagenet_us3l_fast.py').train_dataloader)
    options.update(batch_size=args.batch, num_workers=workers, pin_memory=args.device != 'cpu')
    options['dataset'] = dict(
        type='CustomDataset', data_root=str(listed.parent), ann_file=listed.name, with_label=False, pipeline=pipeline
    )
    loader = iter(Runner.build_dataloader(options, seed=0))
    for number in range(batches):
        next(loader)
        if number + 1 == batches // 2:
            start = time.perf_counter()
    return args.batch * (batches // 2) / (time.perf_counter() - start)


def table(name: str, ways: dict[str, Callable], items: list, args: argparse.Namespace) -> list[dict]:
    """Measure and print ways of one core."""
    print()
    print_row([name, 'images/s', 'ratio of medians'], head=True)
    speeds = measure(ways, items, args.repeats)
    base = next(iter(speeds.values()))
    for way, speed in speeds.items():
        print_row([way, f'{speed:.0f}', f'{speed / base:.2f}'])
    return [dict(table=name, way=way, images_per_s=round(speed, 1)) for way, speed in speeds.items()]


def loaders(views: dict[str, list[dict]], paths: list[Path], args: argparse.Namespace) -> list[dict]:
    """Measure and print whole data loaders."""
    print()
    rows = []
    print_row(['loader', 'workers', 'images/s', *(['of what is needed'] if args.need else [])], head=True)
    for workers in args.workers:
        for way, pipeline in views.items():
            speed = measure_loader(pipeline, paths, workers, args)
            print_row([way, workers, f'{speed:.0f}', *([f'{speed / args.need:.2f}'] if args.need else [])])
            rows.append(dict(table='loader', way=way, workers=workers, images_per_s=round(speed, 1)))
    return rows


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore', message="Only use 'alpha'")  # mmcv's jitter
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')
    with tempfile.TemporaryDirectory() as folder:
        paths = write_jpegs(Path(folder), args)
        data = [path.read_bytes() for path in paths]
        describe(args)
        print(f'JPEGs of {sum(map(len, data)) / len(data) / 1e3:.0f} kB on average')
        missing = [name for name in ('turbojpeg', 'lmdb') if not find_spec(name)]
        if missing:
            print(f'not installed: {", ".join(missing)}')
        views = pipelines(args.side)
        built = {name: Compose(steps) for name, steps in views.items()}
        cut = {name: lambda path, steps=steps: steps(dict(img_path=str(path))) for name, steps in built.items()}
        rows = table('decode', decoders(), data, args) + table('two views', cut, paths, args)
        rows += table('load', loading(), paths, args) + table('read', readers(Path(folder), paths), paths, args)
        names = [name for name in views if 'cv2' not in name and 'in full' not in name]
        if args.workers:
            rows += loaders({name: views[name] for name in names}, paths, args)
    save(args, rows)


if __name__ == '__main__':
    main()
