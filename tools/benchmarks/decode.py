"""Measure images per second of JPEG decoders, of transforms that load files, and of reading files, LMDB and tar shards.

python tools/benchmarks/decode.py

The images are crops of scikit-learn's two photographs, with the usual size and quality of ImageNet, in a temporary
folder. Ways without their package are left out and named. All take turns on one core, with the files in the page cache.
"""

import argparse
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import mmcv
import numpy as np
import PIL
import torch
from mmengine.fileio import LmdbBackend, LocalBackend
from sklearn.datasets import load_sample_images
from torchvision.io import decode_jpeg

from us3l_mm.datasets import LoadImageFromFile
from us3l_mm.utils.arguments import count_from


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=count_from(1), default=40, help='images (default: %(default)s)')
    parser.add_argument(
        '--size', type=count_from(1), nargs=2, default=(500, 375), help='width, height (default: 500 375)'
    )
    parser.add_argument('--quality', type=count_from(1), default=90, help='of the JPEGs (default: %(default)s)')
    parser.add_argument('--repeats', type=count_from(1), default=9, help='runs of each (default: %(default)s)')
    parser.add_argument('--out', help='JSON file to write')
    return parser.parse_args()


def write_jpegs(folder: Path, count: int, size: Sequence[int], quality: int) -> list[Path]:
    """Write random crops of photographs as colour JPEGs, and return their paths."""
    random, photos, paths = np.random.RandomState(0), load_sample_images().images, []
    for number in range(count):
        photo = photos[number % len(photos)][..., ::-1]
        height, width = (random.randint(side // 2, side) for side in photo.shape[:2])
        top, left = random.randint(photo.shape[0] - height), random.randint(photo.shape[1] - width)
        piece = cv2.resize(photo[top : top + height, left : left + width], tuple(size), interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f'{number}.jpg')
        cv2.imwrite(str(paths[-1]), piece, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return paths


def decoders() -> dict[str, Callable[[bytes], object]]:
    """Return functions from the bytes of a file to its pixels, by name."""
    ways = {
        'mmcv, cv2': lambda data: mmcv.imfrombytes(data, backend='cv2'),
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


def transforms() -> dict[str, Callable[[Path], dict]]:
    """Return the loading transforms, as functions of a path, by name."""
    mmcvs, ours = mmcv.transforms.LoadImageFromFile(), LoadImageFromFile()
    return {
        'mmcv.LoadImageFromFile': lambda path: mmcvs(dict(img_path=str(path))),
        'us3l_mm.LoadImageFromFile': lambda path: ours(dict(img_path=str(path))),
    }


def measure(ways: dict[str, Callable], items: list, repeats: int) -> list[dict]:
    """Measure the median speed of each way; ways take turns at each item, so that all are disturbed alike."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in items] for name in ways}
    for repeat in range(repeats + 1):
        for number, item in enumerate(items):
            for name in list(ways)[:: 1 if (repeat + number) % 2 else -1]:
                start = time.perf_counter()
                ways[name](item)
                if repeat:  # the first one warms up
                    times[name][number].append(time.perf_counter() - start)
    medians = {name: len(items) / sum(map(statistics.median, values)) for name, values in times.items()}
    base = next(iter(medians.values()))
    return [dict(way=name, images_per_s=round(value), ratio=round(value / base, 3)) for name, value in medians.items()]


def main() -> None:
    args = parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_jpegs(Path(folder), args.images, args.size, args.quality)
        data = [path.read_bytes() for path in paths]
        tables = {
            'decode': measure(decoders(), data, args.repeats),
            'load': measure(transforms(), paths, args.repeats),
            'read': measure(readers(Path(folder), paths), paths, args.repeats),
        }
    size = sum(map(len, data)) / len(data) / 1024
    print(f'{args.images} JPEGs of {args.size[0]} x {args.size[1]}, quality {args.quality}, {size:.0f} KiB on average')
    print(f'Pillow {PIL.__version__}')
    missing = [name for name in ('turbojpeg', 'lmdb') if not find_spec(name)]
    if missing:
        print(f'not installed: {", ".join(missing)}')
    for name, rows in tables.items():
        print(f'\n| {name} | images/s | ratio of medians |\n|---|---|---|')
        for row in rows:
            print('|', ' | '.join(map(str, row.values())), '|')
    if args.out:
        Path(args.out).write_text(json.dumps({**vars(args), **tables}, indent=1) + '\n')


if __name__ == '__main__':
    main()
