"""Make a small detection data set in COCO format: handwritten digits pasted into photographs.

python tools/dataset_converters/make_digit_scenes.py data/digit_scenes

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
SPLITS = {
    'train': ('train', 0.0, 0.6),
    'val': ('test', 0.6, 1.0),
}  # digits; part of the photographs' width
HEIGHTS = (16, 36)  # lowest and highest digit, in pixels of ink
INK = 0.3  # least opacity that counts as ink
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


def load_photos() -> list[np.ndarray]:
    """Load two photographs, uint8 of shape (427, 640, 3), RGB."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def load_digits(split: str) -> tuple[list[np.ndarray], list[int]]:
    """Load digits as opacity maps in [0, 1] of shape (8, 8), and their labels."""
    from us3l_mm.datasets import Digits  # here: --help need not wait for it

    items = Digits(split=split, pipeline=[]).load_data_list()
    return [item['img'][..., 0] / 255 for item in items], [item['gt_label'] for item in items]


def ink_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Find the smallest box (x1, y1, x2, y2), ends excluded, around the ink of an opacity map."""
    rows, columns = np.flatnonzero((alpha >= INK).any(axis=1)), np.flatnonzero((alpha >= INK).any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def enlarge(digit: np.ndarray, height: int) -> np.ndarray:
    """Enlarge an opacity map so that its ink is ``height`` pixels high, and crop it to the ink."""
    digit = np.pad(digit, 1)  # room for the soft edge
    x1, y1, x2, y2 = ink_box(cv2.resize(digit, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))
    scale = 8 * height / (y2 - y1)
    large = cv2.resize(digit, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    x1, y1, x2, y2 = ink_box(large)
    return large[y1:y2, x1:x2]


def background(rng: np.random.Generator, photo: np.ndarray, left: float, right: float, size: int) -> np.ndarray:
    """Crop a photograph between two fractions of its width, with random size, brightness and contrast."""
    region = photo[:, round(left * photo.shape[1]) : round(right * photo.shape[1])]
    side = int(rng.integers(size, min(2 * size, *region.shape[:2]) + 1))
    y, x = rng.integers(0, region.shape[0] - side + 1), rng.integers(0, region.shape[1] - side + 1)
    crop = cv2.resize(region[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return ((crop - 128.0) * rng.uniform(0.4, 1.0) + 128 + rng.uniform(-50, 50)).clip(0, 255)


def iou(a: tuple, b: tuple) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def paste(rng: np.random.Generator, scene: np.ndarray, alpha: np.ndarray, x: int, y: int) -> None:
    """Blend a digit into ``scene``, brighter or darker than its background."""
    patch = scene[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    local = patch.mean()
    contrast = rng.uniform(80, 160) * rng.choice([-1, 1])
    if not 0 <= local + contrast <= 255:
        contrast = -contrast
    colour = (local + contrast + rng.uniform(-15, 15, size=3)).clip(0, 255)
    opacity = rng.uniform(0.85, 1.0) * alpha[..., None]
    patch[:] = (1 - opacity) * patch + opacity * colour


def make_scene(
    rng: np.random.Generator, photos: list, part: tuple[float, float], digits: list, labels: list, size: int
) -> tuple[np.ndarray, list[tuple], list[int]]:
    """Make a scene of 1 to 4 digits.

    Returns:
        tuple: Image, uint8 of shape (size, size, 3); boxes (x1, y1, x2, y2), ends excluded; labels.
    """
    scene = background(rng, photos[rng.integers(len(photos))], *part, size)
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
                paste(rng, scene, alpha, x, y)
                boxes.append(box)
                kept.append(labels[index])
                break
        else:
            break  # the scene is full
    return scene.round().astype(np.uint8), boxes, kept


def make_split(out_dir: Path, name: str, count: int, size: int, seed: int) -> None:
    """Write the images and the annotations of one split."""
    split, *part = SPLITS[name]
    photos, (digits, labels) = load_photos(), load_digits(split)
    rng = np.random.default_rng([seed, list(SPLITS).index(name)])
    (out_dir / name).mkdir()
    images, annotations = [], []
    for image_id in range(1, count + 1):
        scene, boxes, kept = make_scene(rng, photos, part, digits, labels, size)
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
