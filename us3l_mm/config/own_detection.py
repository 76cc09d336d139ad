"""Train a detector on a set of one's own, in COCO's or in VOC's format: what a config has to change for it."""

import contextlib
import statistics
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from mmcv.transforms import RandomChoiceResize, RandomResize, Resize
from mmengine.config import Config, ConfigDict

from .find import LOADERS, find_datasets, find_dicts
from .input_size import transform_class

# Names of files and folders, the first that is there counts.
_JSON = dict(train=('train', 'instances_train*'), val=('val', 'valid', 'instances_val*', 'test'))
_IMAGES = ('', 'images', '{split}', 'images/{split}', '{split}2017', 'images/{split}2017', 'JPEGImages')
_LISTS = dict(train=('train.txt', 'trainval.txt'), val=('val.txt', 'test.txt'))
_LOOKED_AT = 100  # images whose sizes are read
_ENLARGED = 800 / 480  # most images of COCO have a short side of 480 pixels, which detectors get as 800


@dataclass(frozen=True)
class DetectionSplit:
    """A split of a detection set.

    Attributes:
        ann_file (Path): Annotation file (COCO) or list of names (VOC).
        folder (Path): Folder of the images.
        images (list[str]): Their names in the folder.
        classes (list[str]): Names of the classes, COCO's in the order of their identifiers, VOC's by the alphabet.
    """

    ann_file: Path
    folder: Path
    images: list[str]
    classes: list[str]


def use_detection_set(cfg: Config, root: Path) -> tuple[int, list[str]]:
    """Train and test a detector on a set in a folder.

    Args:
        cfg (Config): Config of a detector; changed in place. Classes are those of the set, unless ``cfg.classes``
            names some.
        root (Path): Folder with ``train.json`` and ``val.json``, or ``instances_{train,val}*.json``, also in
            ``annotations`` (COCO); or ``ImageSets/Main/{train,val}.txt``, ``Annotations`` and ``JPEGImages`` (VOC).

    Returns:
        tuple[int, list[str]]: Number of images to train on, and what was derived.

    Raises:
        ValueError: If it is neither, or the config needs masks, which VOC's format lacks.
    """
    is_voc = (root / 'ImageSets' / 'Main').is_dir()
    splits = {split: (_voc_split if is_voc else _coco_split)(root, split) for split in ('train', 'val')}
    train = splits['train']
    if not cfg.get('classes'):
        cfg.classes = train.classes
    pipelines = {key: list(next(find_datasets(cfg, [key]))[1].pipeline) for key in LOADERS}
    if is_voc and any(step.get('with_mask') for step in find_dicts(list(pipelines.values()))):
        raise ValueError(f"{root} is in VOC's format, which has no masks; take the config of a detector of boxes alone")
    for key, pipeline in pipelines.items():
        split = splits['train' if key == 'train_dataloader' else 'val']
        part = dict(filter_cfg=dict(filter_empty_gt=True)) if split is train else dict(test_mode=True)
        cfg[key].dataset = ConfigDict(
            type='us3l_mm.CustomVOC' if is_voc else 'us3l_mm.CustomCOCO',
            data_root=f'{root}/',
            ann_file=str(split.ann_file.relative_to(root)),
            data_prefix=dict(sub_data_root='') if is_voc else dict(img=f'{split.folder.relative_to(root)}/'),
            pipeline=pipeline,
            **part,
        )
    _set_evaluators(cfg, is_voc, splits['val'].ann_file)
    names = ', '.join(cfg.classes[:5]) if isinstance(cfg.classes, (list, tuple)) else cfg.classes
    lines = [
        f'{root} is in the format of {"VOC" if is_voc else "COCO"}: {len(train.images)} images to train on, by '
        f'{train.ann_file}, {len(splits["val"].images)} to test on, by {splits["val"].ann_file}',
        f'classes: {names}{", ..." if len(cfg.classes) > 5 else ""}',
    ]
    return len(train.images), lines + _fit_size(cfg, train)


def _fit_size(cfg: Config, train: DetectionSplit) -> list[str]:
    """Make the size smaller where images are smaller than COCO's; return what was derived."""
    from us3l_mm.datasets.found import image_size  # it comes with mmdet

    sizes = []
    for name in train.images[:_LOOKED_AT]:
        with contextlib.suppress(OSError, ValueError):  # the data set names these
            sizes.append(min(image_size(str(train.folder / name))))
    wanted = round(_ENLARGED * statistics.median(sizes)) if sizes else _short_side(cfg)
    return set_short_side(cfg, wanted) if wanted < _short_side(cfg) else []


def set_short_side(cfg: Config, size: int) -> list[str]:
    """Change the short side of the images that a detector gets, and all other sizes in proportion.

    Args:
        cfg (Config): Config of a detector; changed in place.
        size (int): The longest short side, that of tests, in pixels.

    Returns:
        list[str]: What was derived.

    Raises:
        ValueError: If tests have no ``Resize``.
    """
    before = _short_side(cfg)

    def scaled(value: object) -> object:
        if isinstance(value, int):
            return round(value * size / before)
        return [scaled(part) for part in value] if isinstance(value, list) else tuple(map(scaled, value))

    for step in find_dicts([cfg.get(key) for key in LOADERS]):
        for key in _sizes_of(step, cfg):
            step[key] = scaled(step[key])
    return [f'images with a short side of {size} pixels in the place of {before}']


def _sizes_of(step: ConfigDict, cfg: Config) -> set[str]:
    """Names of the options of a transform that are sizes in pixels."""
    resizes = issubclass(transform_class(step, cfg.get('default_scope')), (Resize, RandomResize, RandomChoiceResize))
    return {'scale', 'scales'} & step.keys() if resizes else set()


def _short_side(cfg: Config) -> int:
    found = [step.scale for step in find_dicts(cfg.get('test_dataloader')) if 'scale' in _sizes_of(step, cfg)]
    if not found:
        raise ValueError('the pipeline of test_dataloader has no Resize with a scale, so that no size can be set')
    return min(found[0])


def _set_evaluators(cfg: Config, is_voc: bool, ann_file: Path) -> None:
    for key in ('val_evaluator', 'test_evaluator'):
        coco = next((part for part in find_dicts(cfg.get(key)) if 'ann_file' in part), None)
        if is_voc:
            iou = [round(0.5 + 0.05 * step, 2) for step in range(10)]
            cfg[key] = dict(type='mmdet.VOCMetric', eval_mode='area', iou_thrs=iou)
        elif coco is not None:
            coco.ann_file = str(ann_file)
        else:
            cfg[key] = dict(type='us3l_mm.CustomCOCOMetric', ann_file=str(ann_file), metric='bbox')


def _voc_split(root: Path, split: str) -> DetectionSplit:
    folder = root / 'ImageSets' / 'Main'
    path = next((folder / name for name in _LISTS[split] if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f'{folder} has none of {", ".join(_LISTS[split])}, which list the names of the images')
    names = [line.strip() for line in path.read_text(encoding='utf-8-sig').splitlines() if line.strip()]
    classes, found = set(), {image.stem: image.name for image in sorted((root / 'JPEGImages').glob('*'))}
    for name in names:
        with contextlib.suppress(OSError, ET.ParseError):  # the data set names these
            tree = ET.parse(root / 'Annotations' / f'{name}.xml')
            classes.update((item.text or '').strip() for item in tree.iterfind('object/name'))
    images = [found.get(name, name) for name in names]
    return DetectionSplit(path, root / 'JPEGImages', images, sorted(classes - {''}))


def _coco_split(root: Path, split: str) -> DetectionSplit:
    names = [f'{folder}{name}.json' for name in _JSON[split] for folder in ('', 'annotations/')]
    path = next((path for name in names for path in sorted(root.glob(name))), None)
    if path is None:
        raise ValueError(
            f'{root} is no detection set: it has none of {", ".join(names)} (COCO), nor ImageSets/Main (VOC), but '
            f'{sorted(path.name for path in root.iterdir())[:10]}'
        )
    from us3l_mm.datasets.coco_file import NamedCOCO  # it needs mmdet

    found = NamedCOCO(str(path)).dataset
    images = [image['file_name'] for image in found['images']]
    folders = [root / name.format(split=split) for name in _IMAGES]
    folder = next((folder for folder in folders if (folder / images[0]).is_file()), None)
    if folder is None:
        places = ', '.join(str(folder) for folder in folders)
        raise ValueError(f'the first image of {path}, {images[0]}, is in none of {places}')
    categories = sorted(found['categories'], key=lambda category: category['id'])
    return DetectionSplit(path, folder, images, [category['name'] for category in categories])
