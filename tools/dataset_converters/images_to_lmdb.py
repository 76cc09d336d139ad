"""Pack a folder of images into one LMDB file, for disks that are slow with many small files.

us3l images-to-lmdb data/imagenet/train data/imagenet_lmdb

Files are stored as they are, under their paths in the folder; images.txt lists them. With --short-side 320, images with
a longer short side are made smaller and stored as JPEGs, which decode faster: that changes what is trained on. The
command goes on where it was interrupted. docs/data.md says how a config reads the file. It needs the package lmdb.
"""

import argparse
import json
from pathlib import Path
from urllib.parse import quote

from us3l_mm.utils.arguments import count_from

OPTIONS = b'__options__'  # of the command, so that a file is not finished with other ones
MAP_SIZE = 2**42  # bytes of addresses, not of disk
TOGETHER = 1000  # images between two writes to the disk


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder of images, at any depth, such as data/imagenet/train')
    parser.add_argument('out_dir', type=Path, help='folder to write, such as data/imagenet_lmdb')
    parser.add_argument('--short-side', type=count_from(1), help='longest short side in pixels, such as 320')
    parser.add_argument(
        '--quality', type=count_from(1), default=90, help='of JPEGs made smaller (default: %(default)s)'
    )
    return parser.parse_args()


def content(path: Path, short_side: int | None, quality: int) -> bytes:
    """Return what is stored of an image file."""
    import cv2

    from us3l_mm.datasets import read_image

    pixels = read_image(str(path)) if short_side else None
    if pixels is None or min(pixels.shape[:2]) <= short_side:
        return path.read_bytes()
    factor = short_side / min(pixels.shape[:2])
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def main() -> None:
    args = parse_args()
    try:
        import lmdb
    except ImportError:
        raise SystemExit('the package lmdb is missing: pip install lmdb') from None
    from mmengine.utils import track_iter_progress

    from us3l_mm.datasets import IMAGE_EXTENSIONS
    from us3l_mm.utils.files import write_text

    files = sorted(
        path for path in args.folder.rglob('*') if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file()
    )
    if not files:
        raise SystemExit(f'no image in {args.folder} or below; names of images end in {", ".join(IMAGE_EXTENSIONS)}')
    names = [quote(path.relative_to(args.folder).as_posix()) for path in files]  # mmengine's keys are ASCII
    args.out_dir.mkdir(parents=True, exist_ok=True)
    options = json.dumps(dict(short_side=args.short_side, quality=args.quality)).encode()
    with lmdb.open(str(args.out_dir), map_size=MAP_SIZE) as database:
        with database.begin(write=True) as writer:
            if not writer.put(OPTIONS, options, overwrite=False) and writer.get(OPTIONS) != options:
                raise SystemExit(
                    f'{args.out_dir} was begun with other options, {writer.get(OPTIONS).decode()}; remove it'
                )
        for start in track_iter_progress(range(0, len(files), TOGETHER)):
            with database.begin(write=True) as writer:
                for path, name in zip(files[start : start + TOGETHER], names[start : start + TOGETHER]):
                    if writer.get(name.encode()) is None:
                        writer.put(name.encode(), content(path, args.short_side, args.quality))
    write_text(args.out_dir / 'images.txt', ''.join(f'{name}\n' for name in names))
    print(f'\n{len(names)} images in {args.out_dir}')


if __name__ == '__main__':
    main()
