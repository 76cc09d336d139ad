"""Load damaged files, files that are no images, and images of unusual kinds; compare with what is right.

python tools/fault/bad_images.py            # all, two minutes
python tools/fault/bad_images.py --sample   # fewer random cuts and flipped bits

What is right is computed without the code under test: from the picture that was stored, by NumPy, or by Pillow where a
format is lossy. A damaged file must be refused by an error that names it, or give the pixels of the whole file.
The table counts, by kind of file:

  right    pixels as they should be (up to 2 of 255 levels for JPEG and CMYK, 1 for others)
  named    refused by an error that names the file
  lost     refused, although it is a whole image
  silent   loaded, with other pixels, or though it cannot be an image
  unnamed  another error
  hang     not finished within 20 seconds

Then it loads folders with bad files by a data loader, with on_bad_image='skip'. The exit code is 1 if anything is lost,
silent, unnamed or hangs. Flipped bits in a JPEG, which has no checksum, are compared with what Pillow makes of them.
"""

import argparse
import collections
import gc
import io
import os
import signal
import socket
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader

from us3l_mm.datasets import IMAGE_EXTENSIONS, BadImageError, LoadImageFromFile
from us3l_mm.registry import DATASETS
from us3l_mm.utils.arguments import count_from
from us3l_mm.utils.tables import markdown_table

COLUMNS = ('right', 'named', 'lost', 'silent', 'unnamed', 'hang')
PHOTO = cv2.resize(load_sample_images().images[0], (64, 48), interpolation=cv2.INTER_AREA)  # RGB
GREY = PHOTO[..., 1]
DEEP = PHOTO.astype(np.uint16) * 256 + 77  # 16 bits a channel; 77 is lost in 8 bits
DEEP_GREY = DEEP[..., 1]
ALPHA = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
# What EXIF's orientation means: the stored picture to the upright one.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}
Made = Iterator['Case']


class Case(NamedTuple):
    """A file, and what loading it must give.

    ``data`` is the content, or a function that makes something at a path. ``right`` has RGB pixels, or None if there
    are none. ``damaged`` allows a refusal by name as well.
    """

    kind: str
    name: str
    data: object
    right: np.ndarray | None = None
    damaged: bool = False
    tolerance: int = 1


class Hang(BaseException):
    """Raised by the alarm; no ``except Exception`` catches it."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--count', type=count_from(1), default=100, help='random cuts and flips a format (default: %(default)s)'
    )
    parser.add_argument('--sample', action='store_true', help='the same with 10 a format')
    parser.add_argument('--seed', type=count_from(0), default=0, help='of the random places (default: %(default)s)')
    return parser.parse_args()


def encode(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """Encode by Pillow."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_deep(pixels: np.ndarray, suffix: str) -> bytes:
    """Encode 16 bits a channel or floats by OpenCV, which Pillow cannot."""
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    pixels = cv2.cvtColor(pixels, order[pixels.shape[2]]) if pixels.ndim == 3 else pixels
    return cv2.imencode(suffix, pixels)[1].tobytes()


def by_pillow(data: bytes) -> np.ndarray:
    """Decode to upright RGB by Pillow."""
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB'))


def chunk(name: bytes, data: bytes) -> bytes:
    """Make a chunk of a PNG."""
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b'') -> bytes:
    """Make a PNG of packed rows, each of which begins with its filter."""
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + extra + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, axis=2)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def whole_files() -> dict[str, bytes]:
    """One file of each format, by name."""
    thumbnail = Image.Exif()
    thumbnail[0x0112] = 1
    small = encode(PHOTO[::4, ::4], 'JPEG')
    # A second segment as cameras write it: a JPEG, with its own end mark, in front of the picture.
    base = encode(PHOTO, 'JPEG', quality=95)
    segment = b'\xff\xe1' + struct.pack('>H', len(small) + 8) + b'Thumb\0' + small
    return {
        'JPEG': base,
        'JPEG, progressive': encode(PHOTO, 'JPEG', quality=95, progressive=True),
        'JPEG with thumbnail': base[:2] + segment + base[2:],
        'JPEG, grey': encode(GREY, 'JPEG', quality=95),
        'JPEG, CMYK': encode(Image.fromarray(PHOTO).convert('CMYK'), 'JPEG', quality=95),
        'PNG': encode(PHOTO, 'PNG'),
        'GIF': encode(PHOTO, 'GIF'),
        'WebP': encode(PHOTO, 'WEBP', quality=90),
        'WebP, lossless': encode(PHOTO, 'WEBP', lossless=True),
        'TIFF': encode(PHOTO, 'TIFF'),
        'TIFF, LZW': encode(PHOTO, 'TIFF', compression='tiff_lzw'),
        'BMP': encode(PHOTO, 'BMP'),
        'PPM': encode(PHOTO, 'PPM'),
    }


def cuts(files: dict[str, bytes], count: int, random: np.random.RandomState) -> Made:
    """Files that end too early, at fixed and at random places; and others that a copy left with zeros at the end."""
    for name, data in files.items():
        right = by_pillow(data)
        places = {1, 2, 4, 12, len(data) // 10, len(data) // 2, len(data) * 9 // 10, len(data) - 2, len(data) - 1}
        for place in sorted(places | set(random.randint(1, len(data), count).tolist())):
            yield Case('cut off', f'{name} at byte {place}', data[:place], right, damaged=True)
        if name.startswith(('JPEG', 'PNG', 'GIF')):  # in others, zeros are data like any
            for part in (0.3, 0.6, 0.9):
                zeros = data[: int(len(data) * part)].ljust(len(data), b'\0')
                yield Case('zeros at the end', f'{name} from {part:.0%}', zeros, right, damaged=True)


def flips(files: dict[str, bytes], count: int, random: np.random.RandomState) -> Made:
    """Single flipped bits: PNG's checksums must find them; a JPEG must look as in Pillow, which may not see them."""
    for name in ('PNG', 'JPEG', 'JPEG, progressive'):
        right = by_pillow(files[name])
        for _ in range(count):
            data = bytearray(files[name])
            place, bit = random.randint(len(data)), random.randint(8)
            data[place] ^= 1 << bit
            if name != 'PNG':
                try:
                    right = by_pillow(bytes(data))
                except Exception:
                    right = None
            yield Case(
                f'flipped bit, {name.split(",")[0]}', f'{name}, byte {place} bit {bit}', bytes(data), right, True
            )


def no_images(files: dict[str, bytes]) -> Made:
    """Content that is no image, or none of a known format."""
    contents = {
        'empty': b'',
        'zeros': bytes(1024),
        'text': b'No image here.\n',
        'text with a byte order mark': b'\xef\xbb\xbfNo image here.\n',
        'a web page': b'<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>',
        'JSON': b'{"error": "rate limit"}',
        'a pointer of git-lfs': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n',
        'random bytes': np.random.RandomState(1).bytes(5000),
        'PostScript, which Pillow would run': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n',
        'SVG': b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
        'a JPEG after a byte order mark': b'\xef\xbb\xbf' + files['JPEG'],
        'JPEG markers without a picture': b'\xff\xd8\xff\xd9',
        'JPEG of 12 bits': files['JPEG'].replace(b'\xff\xc0\x00\x11\x08', b'\xff\xc0\x00\x11\x0c'),
        'JPEG of no height': files['JPEG'].replace(b'\xff\xc0\x00\x11\x08\x00\x30', b'\xff\xc0\x00\x11\x08\x00\x00'),
        'PNG of no width': png(0, 4, 8, 2, b''),
        'PNG without data': png(8, 8, 8, 2, b''),
        'TIFF of floats': encode(Image.fromarray(GREY / np.float32(255)), 'TIFF'),
        'TIFF of floats, colour': encode_deep(PHOTO / np.float32(255), '.tiff'),
        'TIFF of 32-bit integers': encode(Image.fromarray(GREY.astype(np.int32) * 65537), 'TIFF'),
    }
    for name, data in contents.items():
        yield Case('no image', name, data)


def huge(files: dict[str, bytes]) -> Made:
    """Small files whose header asks for gigabytes."""
    side = 60000
    jpeg = files['JPEG'].replace(b'\xff\xc0\x00\x11\x08\x00\x30\x00\x40', b'\xff\xc0\x00\x11\x08' + b'\xff\xdc' * 2)
    assert jpeg != files['JPEG']
    bmp = bytearray(files['BMP'])
    bmp[18:26] = struct.pack('<ii', side, side)
    gif = bytearray(files['GIF'])
    gif[6:10] = struct.pack('<HH', side, side)
    yield Case('huge', 'JPEG', jpeg)
    yield Case('huge', 'PNG', png(side, side, 8, 2, bytes(1000)))
    yield Case('huge', 'PNG, real', png(30000, 30000, 1, 0, bytes(30000 * 3751)))
    yield Case('huge', 'BMP', bytes(bmp))
    yield Case('huge', 'GIF', bytes(gif))
    yield Case('huge', 'PPM', b'P6 60000 60000 255\n' + bytes(100))
    yield Case('huge', 'TIFF', encode(Image.new('1', (20000, 20000)), 'TIFF', compression='group4'))


def formats(files: dict[str, bytes]) -> Made:
    """Whole images of every format, by their right and by wrong names, small ones, and with more behind them."""
    for name, data in files.items():
        tolerance = 2 if 'JPEG' in name else 1
        yield Case('format', name, data, by_pillow(data), tolerance=tolerance)
        yield Case('format', f'{name}, with bytes after it', data + b'\0more', by_pillow(data), tolerance=tolerance)
        suffix = '.png' if name.startswith('JPEG') else '.jpg'
        yield Case('wrong suffix', f'{name} as {suffix}', data, by_pillow(data), tolerance=tolerance)
    tiffs = ('tiff_deflate', 'packbits', 'tiff_adobe_deflate')
    for compression in tiffs:
        yield Case('format', f'TIFF, {compression}', encode(PHOTO, 'TIFF', compression=compression), PHOTO)
    for sampling in (0, 1, 2):
        data = encode(PHOTO, 'JPEG', quality=90, subsampling=sampling, optimize=True, restart_marker_rows=1)
        yield Case('format', f'JPEG, subsampling {sampling}', data, by_pillow(data), tolerance=2)
    yield Case('format', 'JPEG as RGB', encode(PHOTO, 'JPEG', quality=95, keep_rgb=True), PHOTO, tolerance=12)
    yield Case('format', 'JPEG 2000', encode(PHOTO, 'JPEG2000', irreversible=False), PHOTO)
    for size in ((1, 1), (1, 64), (48, 1)):
        piece = PHOTO[: size[0], : size[1]]
        for kind in ('JPEG', 'PNG', 'GIF', 'WEBP', 'TIFF', 'BMP', 'PPM'):
            data = encode(piece, kind)
            yield Case('small', f'{kind} of {size[0]} x {size[1]}', data, by_pillow(data), tolerance=2)
    second = Image.fromarray(255 - PHOTO)
    for kind, options in (('GIF', {}), ('WEBP', dict(lossless=True)), ('PNG', {}), ('TIFF', {})):
        data = encode(PHOTO, kind, save_all=True, append_images=[second, second], **options)
        right = by_pillow(encode(PHOTO, 'GIF')) if kind == 'GIF' else PHOTO
        yield Case('several images', f'{kind}, the first counts', data, right)


def orientations() -> Made:
    """EXIF's eight orientations, in four formats."""
    for orientation, turn in UPRIGHT.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, options in (
            ('JPEG', dict(quality=95)),
            ('PNG', {}),
            ('WEBP', dict(lossless=True)),
            ('TIFF', {}),
        ):
            data = encode(PHOTO, kind, exif=exif, **options)
            stored = PHOTO if kind != 'JPEG' else np.array(Image.open(io.BytesIO(data)))
            yield Case('EXIF', f'{kind}, orientation {orientation}', data, turn(stored), tolerance=2)
    broken = b'Exif\0\0MM\0*\xff\xff\xff\xff'
    yield Case(
        'EXIF',
        'JPEG, broken EXIF',
        encode(PHOTO, 'JPEG', quality=95, exif=broken),
        by_pillow(encode(PHOTO, 'JPEG', quality=95)),
    )


def depths() -> Made:
    """Images that are not three channels of 8 bits."""
    for suffix in ('.png', '.tiff', '.pgm'):
        yield Case('16 bits', f'grey {suffix}', encode_deep(DEEP_GREY, suffix), grey(GREY))
    for suffix in ('.png', '.tiff', '.ppm'):
        yield Case('16 bits', f'colour {suffix}', encode_deep(DEEP, suffix), PHOTO)
    big_endian = Image.frombytes('I;16B', (64, 48), DEEP_GREY.astype('>u2').tobytes())
    yield Case('16 bits', 'grey TIFF, big-endian', encode(big_endian, 'TIFF'), grey(GREY))
    exif = Image.Exif()
    exif[0x0112] = 6
    yield Case('16 bits', 'grey PNG, turned', encode(DEEP_GREY, 'PNG', exif=exif), UPRIGHT[6](grey(GREY)))
    for kind in ('PNG', 'TIFF', 'BMP', 'GIF', 'PPM', 'WEBP', 'JPEG'):
        data = encode(GREY, kind, **(dict(lossless=True) if kind == 'WEBP' else {}))
        yield Case('grey', kind, data, by_pillow(data) if kind == 'JPEG' else grey(GREY), tolerance=2)
    for kind in ('PNG', 'TIFF', 'BMP', 'PPM', 'GIF'):
        black = GREY > 100
        yield Case('grey', f'{kind} of 1 bit', encode(Image.fromarray(black), kind), grey(black * np.uint8(255)))
    for bits in (2, 4):
        levels = (GREY >> (8 - bits)).reshape(48, -1, 8 // bits)
        packed = sum(levels[..., i].astype(int) << (8 - bits * (i + 1)) for i in range(8 // bits)).astype(np.uint8)
        rows = np.concatenate([np.zeros((48, 1), np.uint8), packed], 1).tobytes()
        right = grey((levels.reshape(48, 64) * (255 // (2**bits - 1))).astype(np.uint8))
        yield Case('grey', f'PNG of {bits} bits', png(64, 48, bits, 0, rows), right)
        yield Case(
            'transparent',
            f'PNG of {bits} bits with one transparent level',
            png(64, 48, bits, 0, rows, chunk(b'tRNS', b'\0\1')),
        )
    cmyk = Image.fromarray(PHOTO).convert('CMYK')
    plates = 255 - np.asarray(cmyk).astype(int)
    right = np.rint(plates[..., :3] * plates[..., 3:] / 255).astype(np.uint8)
    yield Case('CMYK', 'TIFF', encode(cmyk, 'TIFF'), right, tolerance=2)
    full = dict(quality=100, subsampling=0)
    yield Case('CMYK', 'JPEG', encode(cmyk, 'JPEG', **full), right, tolerance=4)


def transparent() -> Made:
    """Alpha channels and transparent colours, which must become white."""
    rgba = np.concatenate([PHOTO, ALPHA[..., None]], 2)
    blended = on_white(PHOTO, ALPHA)
    for kind, options in (('PNG', {}), ('TIFF', {}), ('WEBP', dict(lossless=True, exact=True))):
        yield Case('transparent', f'{kind}, RGBA', encode(rgba, kind, **options), blended)
    exif = Image.Exif()
    exif[0x0112] = 8
    yield Case('transparent', 'PNG, RGBA, turned', encode(rgba, 'PNG', exif=exif), UPRIGHT[8](blended))
    yield Case('transparent', 'PNG, opaque RGBA', encode(np.dstack([PHOTO, np.full_like(GREY, 255)]), 'PNG'), PHOTO)
    deep = np.concatenate([DEEP, ALPHA[..., None].astype(np.uint16) * 257], 2)
    for suffix in ('.png', '.tiff'):
        yield Case('transparent', f'16 bits, RGBA {suffix}', encode_deep(deep, suffix), blended)
    la = Image.merge('LA', [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    for kind in ('PNG', 'TIFF'):
        yield Case('transparent', f'{kind}, grey and alpha', encode(la, kind), on_white(grey(GREY), ALPHA))
    few = Image.fromarray(PHOTO).quantize(16)
    index, colours = np.asarray(few), np.array(few.getpalette()[:48], np.uint8).reshape(16, 3)
    yield Case('transparent', 'PNG, palette', encode(few, 'PNG'), colours[index])
    for kind in ('PNG', 'GIF'):
        right = np.where((index == 3)[..., None], np.uint8(255), colours[index])
        yield Case('transparent', f'{kind}, one of a palette', encode(few, kind, transparency=3), right)
    alphas = (np.arange(16) * 17).astype(np.uint8)
    data = encode(few, 'PNG', transparency=alphas.tobytes())
    yield Case('transparent', 'PNG, alpha of each of a palette', data, on_white(colours[index], alphas[index]))
    level = int(GREY[0, 0])
    right = np.where((level == GREY)[..., None], np.uint8(255), grey(GREY))
    yield Case('transparent', 'PNG, one level', encode(GREY, 'PNG', transparency=level), right)
    colour = PHOTO[0, 0]
    right = np.where((colour == PHOTO).all(-1, keepdims=True), np.uint8(255), PHOTO)
    yield Case('transparent', 'PNG, one colour', encode(PHOTO, 'PNG', transparency=tuple(map(int, colour))), right)
    for name, pixels, color in (('grey', DEEP_GREY, 0), ('colour', DEEP, 2)):
        rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
        mark = chunk(b'tRNS', pixels[0, 0].astype('>u2').tobytes())
        yield Case('transparent', f'16 bits, PNG with one transparent {name}', png(64, 48, 16, color, rows, mark))


def no_files() -> Made:
    """What stands in a folder, but is no file that can be read."""

    def sparse(path):
        with open(path, 'wb') as file:
            file.truncate(2**31)

    def closed(path):
        Path(path).write_bytes(encode(PHOTO, 'PNG'))
        os.chmod(path, 0)

    yield Case('no file', 'missing', lambda path: None)
    yield Case('no file', 'a folder', os.mkdir)
    yield Case('no file', 'a named pipe', os.mkfifo)
    yield Case('no file', 'a broken link', lambda path: os.symlink('nowhere', path))
    yield Case('no file', 'a link to itself', lambda path: os.symlink(path, path))
    yield Case('no file', 'a link to /dev/zero', lambda path: os.symlink('/dev/zero', path))
    yield Case('no file', 'a socket', lambda path: socket.socket(socket.AF_UNIX).bind(path))
    yield Case('no file', '2 GiB of nothing', sparse)
    if os.geteuid():
        yield Case('no file', 'no permission to read', closed)
    else:
        print('left out: no permission to read (root reads everything)')
    yield Case('name', 'a good image, not UTF-8', encode(PHOTO, 'PNG'), PHOTO)
    yield Case('name', 'a bad image, not UTF-8', b'')
    yield Case('name', 'a bad image with a line break\n', b'')


def load(path: str) -> tuple[np.ndarray | None, Exception | None]:
    """Load by the transform of the configs."""
    try:
        return LoadImageFromFile()(dict(img_path=path))['img'], None
    except Exception as error:
        return None, error


def judge(case: Case, path: str) -> tuple[str, str]:
    """Return the column that counts the case, and what happened."""
    try:
        signal.alarm(20)
        image, error = load(path)
    except Hang:
        return 'hang', 'no answer in 20 s'
    finally:
        signal.alarm(0)
    if error is not None:
        name = path.encode('utf-8', 'backslashreplace').decode()
        named = isinstance(error, BadImageError) and name in str(error)
        refused = 'named' if case.right is None or case.damaged else 'lost'
        return refused if named else 'unnamed', f'{type(error).__name__}: {error}'
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return 'silent', f'{image.dtype} {image.shape}'
    if case.right is None:
        return 'silent', f'loaded, {image.shape}'
    if image.shape != case.right.shape:
        return 'silent', f'shape {image.shape}, not {case.right.shape}'
    apart = int(np.abs(image[..., ::-1].astype(int) - case.right).max())
    return ('right' if apart <= case.tolerance else 'silent'), f'{apart} levels apart'


def try_files(cases: list[Case], folder: Path) -> tuple[list, list[str]]:
    """Load each file; return rows of the table and what went wrong."""
    counts: dict[str, collections.Counter] = {}
    faults = []
    for number, case in enumerate(cases):
        name = f'{number}.jpg' if case.kind != 'name' else os.fsdecode(b'%d\xff\n.jpg' % number)
        path = str(folder / (name if 'as .png' not in case.name else f'{number}.png'))
        if callable(case.data):
            case.data(path)
        else:
            Path(path).write_bytes(case.data)
        column, what = judge(case, path)
        counts.setdefault(case.kind, collections.Counter())[column] += 1
        if column not in ('right', 'named'):
            faults.append(f'{column}: {case.kind}, {case.name}: {what}')
    total: collections.Counter = sum(counts.values(), collections.Counter())
    rows = [*counts.items(), ('all', total)]
    return [[kind, sum(row.values()), *(row[column] for column in COLUMNS)] for kind, row in rows], faults


def bad_folder(folder: Path, good: int, bad: int) -> set[str]:
    """Write a folder of images; return the names of the bad ones."""
    folder.mkdir()
    for i in range(good):
        (folder / f'good{i}.png').write_bytes(encode(PHOTO, 'PNG'))
    for i in range(bad):
        (folder / f'bad{i}.jpg').write_bytes(encode(PHOTO, 'JPEG')[: 50 * i])
    return {str(folder / f'bad{i}.jpg') for i in range(bad)}


def read_folder(folder: Path, limit: int, **options) -> tuple[LoadImageFromFile, set[str], str]:
    """Read a folder for two epochs; return the transform, the images that came out, and the error if there was one."""
    step = dict(type='us3l_mm.LoadImageFromFile', on_bad_image='skip', max_bad_images=limit)
    data = dict(type='mmpretrain.CustomDataset', data_root=str(folder), with_label=False, extensions=IMAGE_EXTENSIONS)
    dataset = DATASETS.build(dict(data, pipeline=[step]))
    loader = DataLoader(dataset, batch_size=2, shuffle=True, collate_fn=list, **options)
    seen, message = set(), ''
    try:
        for _ in range(2):
            seen |= {sample['img_path'] for batch in loader for sample in batch}
    except BadImageError as error:
        message = str(error)
    del loader
    gc.collect()  # ends its workers before others are forked
    return dataset.pipeline.transforms[0], seen, message


def try_skipping(folder: Path, sample: bool) -> tuple[list, list[str]]:
    """Read folders with bad files by data loaders; return rows of the table and what went wrong."""
    persistent = dict(num_workers=2, persistent_workers=True)
    loaders = (  # and how many folders a sample takes: after an error, torch takes 10 s to end the workers
        ('0 workers', 3, {}),
        ('2 workers', 2, dict(num_workers=2)),
        ('2 persistent workers', 1, persistent),
        ('2 spawned workers', 1, dict(persistent, multiprocessing_context='spawn')),
    )
    folders = ((12, 3, 3), (12, 4, 3), (0, 2, 3))
    rows, faults = [], []
    for name, sampled, options in loaders:
        for good, bad, limit in folders[:sampled] if sample else folders:
            names = bad_folder(folder / f'skip{len(rows)}', good, bad)
            transform, seen, message = read_folder(folder / f'skip{len(rows)}', limit, **options)
            listed = set(transform.bad_images())
            Path(transform.list_file).unlink(missing_ok=True)
            stops = bad > limit or not good
            ok = listed <= names and not seen & names and bool(message) == stops
            ok &= any(path in message for path in names) and 'max_bad_images' in message if stops else listed == names
            ok &= stops or len(seen) == good
            rows.append(
                [name, good, bad, limit, len(listed), 'stopped' if message else 'went on', 'yes' if ok else 'NO']
            )
            if not ok:
                faults.append(
                    f'skipping, {name}, {bad} bad of {good + bad}: listed {sorted(listed)}, error {message!r}'
                )
    return rows, faults


def all_cases(count: int, seed: int) -> list[Case]:
    random = np.random.RandomState(seed)
    files = whole_files()
    makers = (no_images(files), no_files(), huge(files), cuts(files, count, random), flips(files, count, random))
    return [case for maker in (*makers, formats(files), orientations(), depths(), transparent()) for case in maker]


def ring(*_) -> None:
    raise Hang


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')  # Pillow's remarks on damaged files
    signal.signal(signal.SIGALRM, ring)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')
    MMLogger.get_instance('bad_images', log_level='ERROR')  # without a line for each skipped file
    with tempfile.TemporaryDirectory() as name:
        rows, faults = try_files(all_cases(10 if args.sample else args.count, args.seed), Path(name))
        print(markdown_table(('file', 'tried', *COLUMNS), rows))
        rows, more = try_skipping(Path(name), args.sample)
        header = ("on_bad_image='skip'", 'good', 'bad', 'limit', 'listed', 'training', 'as it should')
        print('\n' + markdown_table(header, rows))
    for fault in faults + more:
        print(fault)
    if faults or more:
        sys.exit(1)


if __name__ == '__main__':
    main()
