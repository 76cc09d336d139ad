"""Make a small detection data set in COCO format: handwritten digits pasted into photographs.

us3l make-digit-scenes data/digit_scenes

Digits and photographs come with scikit-learn, so that nothing is downloaded. The two splits share neither digits (those
of the train and test split of us3l_mm.Digits) nor pixels of photographs (their left and right part).
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from us3l_mm.utils.arguments import count_from

VERSION = 1  # of the algorithm, so that scenes of an older one are not reused
META = 'scenes.json'
SPLITS = {'train': 'train', 'val': 'test'}  # of the digits and photographs
HEIGHTS = (16, 36)  # lowest and highest digit, in pixels of ink
MAX_IOU = 0.02  # largest of two boxes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out_dir', type=Path, help='folder to write; a folder with other contents is refused')
    parser.add_argument('--train', type=count_from(1), default=240, help='training scenes (default: %(default)s)')
    parser.add_argument('--val', type=count_from(1), default=60, help='validation scenes (default: %(default)s)')
    parser.add_argument(
        '--size', type=count_from(1), default=96, help='height and width of a scene (default: %(default)s)'
    )
    parser.add_argument('--seed', type=count_from(0), default=0, help='seed (default: %(default)s)')
    args = parser.parse_args(argv)
    if not 2 * HEIGHTS[1] <= args.size <= 240:
        parser.error(f'--size must be in [{2 * HEIGHTS[1]}, 240], got {args.size}')
    return args


def iou(a: tuple, b: tuple) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def make_scene(
    rng: np.random.Generator, split: str, digits: list, labels: list, size: int
) -> tuple[np.ndarray, list[tuple], list[int]]:
    """Make a scene of 1 to 4 digits.

    Returns:
        tuple: Image, uint8 of shape (size, size, 3); boxes (x1, y1, x2, y2), ends excluded; labels.
    """
    from us3l_mm.datasets.digit_photos import background, enlarge, paste  # here: --help need not wait for it

    scene = background(rng, split, size)
    boxes, kept = [], []
    wanted = rng.integers(1, 5)
    while len(boxes) < wanted:
        index = rng.integers(len(digits))
        alpha = enlarge(digits[index], int(rng.integers(HEIGHTS[0], HEIGHTS[1] + 1)))
        height, width = alpha.shape
        for _ in range(20):
            x, y = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
            box = (x, y, x + width, y + height)
            if all(iou(box, other) <= MAX_IOU for other in boxes):
                paste(rng, scene, alpha, x, y, contrast=rng.uniform(80, 160) * rng.choice([-1, 1]))
                boxes.append(box)
                kept.append(labels[index])
                break
        else:
            break  # the scene is full
    return scene.round().astype(np.uint8), boxes, kept


def make_split(out_dir: Path, name: str, count: int, size: int, seed: int) -> None:
    """Write the images and the annotations of one split."""
    from us3l_mm.datasets.digit_photos import load_digits

    digits, labels = load_digits(SPLITS[name])
    rng = np.random.default_rng([seed, list(SPLITS).index(name)])
    (out_dir / name).mkdir()
    images, annotations = [], []
    for image_id in range(1, count + 1):
        scene, boxes, kept = make_scene(rng, SPLITS[name], digits, labels, size)
        file_name = f'{image_id:05d}.png'
        if not cv2.imwrite(str(out_dir / name / file_name), scene[..., ::-1]):
            raise OSError(f'could not write {out_dir / name / file_name}')
        images.append(dict(id=image_id, file_name=file_name, height=size, width=size))
        for (x1, y1, x2, y2), label in zip(boxes, kept):
            annotation = dict(id=len(annotations) + 1, image_id=image_id, category_id=label + 1, iscrowd=0)
            annotations.append({**annotation, 'bbox': [x1, y1, x2 - x1, y2 - y1], 'area': (x2 - x1) * (y2 - y1)})
    categories = [dict(id=label + 1, name=str(label)) for label in range(10)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    (out_dir / 'annotations' / f'{name}.json').write_text(json.dumps(coco))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    out: Path = args.out_dir
    parameters = dict(version=VERSION, train=args.train, val=args.val, size=args.size, seed=args.seed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        found = json.loads((out / META).read_text()) if (out / META).is_file() else None
        if found == parameters:
            print(f'{out} has these scenes already')
            return
        what = 'something that this tool did not make' if found is None else f'scenes made with {found}'
        raise SystemExit(f'{out} has {what}, and is not overwritten; delete it or give another folder')
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f'{out.name}.part{os.getpid()}')  # so that no half-written data set has the final name
    try:
        (part / 'annotations').mkdir(parents=True)
        for name, count in (('train', args.train), ('val', args.val)):
            make_split(part, name, count, args.size, args.seed)
        (part / META).write_text(json.dumps(parameters))
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f'made {args.train} + {args.val} scenes in {out}')


if __name__ == '__main__':
    main()
