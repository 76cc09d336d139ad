"""Let labels go by the names of classes, in detection sets of COCO's format and in folders of images."""

import logging
import os.path as osp
from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import METRICS
from mmpretrain.datasets import CustomDataset, ImageNet
from mmpretrain.datasets.custom import find_folders
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsHead

from us3l_mm.datasets import ClassFolders, refuse_unknown
from us3l_mm.registry import DATASETS
from us3l_mm.utils.nearest import with_nearest

from .find import LOADERS, build_lazily, find_class, find_datasets, find_dicts
from .set_data import set_num_classes

_SPLITS = ('train', 'val', 'test')
# By the full names of the classes, so that mmdet is imported only where a config needs it.
_COCO = {
    'dataloader': ('mmdet.datasets.coco.CocoDataset', 'us3l_mm.datasets.custom_coco.CustomCOCO'),
    'evaluator': (
        'mmdet.evaluation.metrics.coco_metric.CocoMetric',
        'us3l_mm.evaluation.custom_coco_metric.CustomCOCOMetric',
    ),
}
_IMAGENET = len(ImageNet.METAINFO['classes'])


def follow_data(cfg: Config) -> Config:
    """Give the evaluator of a COCO set the annotation file of that set, and warn where it had another.

    Args:
        cfg (Config): Config; changed in place.

    Returns:
        Config: ``cfg``.
    """
    for split in _SPLITS:
        sets = list(_coco_parts(cfg, split, 'dataloader'))
        if len(sets) != 1:
            continue
        path = osp.join(sets[0].get('data_root') or '', sets[0].get('ann_file') or '')
        for part in _coco_parts(cfg, split, 'evaluator'):
            written = part.get('ann_file')
            if written and osp.normpath(written) != osp.normpath(path):
                part.ann_file = path
                _tell(f'{split}_evaluator.ann_file is {path}, as in {split}_dataloader, in the place of {written}')
    return cfg


def check_coco(cfg: Config, stock_classes: bool = True) -> Config:
    """Replace mmdet's ``CocoDataset`` and ``CocoMetric`` by ours, which check the files and go by the classes' names.

    Args:
        cfg (Config): Config; changed in place. Classes derived from these two are left alone.
        stock_classes (bool): Whether to replace data sets without classes of their own, too. Defaults to True.

    Returns:
        Config: ``cfg``.
    """
    for split in _SPLITS:
        sets = list(_coco_parts(cfg, split, 'dataloader'))
        if not stock_classes:
            sets = [part for part in sets if (part.get('metainfo') or {}).get('classes')]
        for part in sets:
            part.type = 'us3l_mm.CustomCOCO'
        for part in _coco_parts(cfg, split, 'evaluator') if sets else ():
            if part.get('ann_file'):  # without, it takes boxes and labels from the data set
                part.type = 'us3l_mm.CustomCOCOMetric'
    return cfg


def _coco_parts(cfg: Config, split: str, part: str) -> Iterator[ConfigDict]:
    """Yield the data sets or evaluators of a split that are mmdet's for COCO, or ours in their place."""
    found = find_dicts(cfg.get(f'{split}_evaluator'))
    if part == 'dataloader':
        found = (dataset for _, dataset in find_datasets(cfg, [f'{split}_dataloader']))
    for node in found:
        kind = find_class(node.get('type'), cfg.get('default_scope'), DATASETS if part == 'dataloader' else METRICS)
        if kind and f'{kind.__module__}.{kind.__name__}' in _COCO[part]:
            yield node


def number_folders(cfg: Config) -> Config:
    """Number the classes of folders of images by the names of the training split's folders, in all splits.

    The data sets become :class:`us3l_mm.datasets.ClassFolders`, and ``num_classes`` of the heads is the number of
    folders. ImageNet stays as it is with its 1,000 folders in every split. Without the folder of the training split,
    or with labels from annotation files, nothing changes.

    Args:
        cfg (Config): Config; changed in place.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If a split has a folder that training has not; or if top-level ``classes`` are not the names of
            the folders; or if training has a part of ImageNet, and another split has labels from a file.
    """
    splits = {key: list(_folder_sets(cfg, key)) for key in LOADERS}
    train = [(part, built) for part, built in splits['train_dataloader'] if not built.ann_file]
    if not train:
        return cfg
    rest = [pair for sets in splits.values() for pair in sets]
    place = train[0][1].img_prefix
    if not all(osp.isdir(built.img_prefix) for _, built in train):
        _tell_missing(place, rest)
        return cfg
    found = sorted({name for _, built in train for name in find_folders(built.img_prefix)[0]})
    if not found:
        return cfg
    shown = (train[0][0].get('metainfo') or {}).get('classes')
    folders = _in_order(place, found, shown, 'classes' in cfg)
    whole = type(train[0][1]) is ImageNet and shown is None and len(folders) == _IMAGENET
    for part, built in rest:
        if built.ann_file:
            _refuse_numbers(built, place, folders)
            continue
        own = find_folders(built.img_prefix)[0] if osp.isdir(built.img_prefix) else folders
        refuse_unknown(built.img_prefix, own, folders)
        if whole and type(built) is ImageNet and len(own) == len(folders):
            continue
        classes = train[0][1].CLASSES if whole else shown or folders
        part.update(type='us3l_mm.ClassFolders', folders=folders)
        part.metainfo = {**(part.get('metainfo') or {}), 'classes': tuple(classes)}
    before = set(set_num_classes(cfg, len(folders))) - {len(folders)}
    if before:
        _tell(f'num_classes={len(folders)} in the place of {before.pop()}: so many folders are in {place}')
    return cfg


def limit_topk(cfg: Config) -> Config:
    """Leave values of k that are above the number of classes out of the top-k accuracies, which would be errors.

    Args:
        cfg (Config): Config; changed in place.

    Returns:
        Config: ``cfg``.
    """
    scope, model = cfg.get('default_scope'), cfg.get('model') or {}
    heads = [part for part in find_dicts(model) if issubclass(find_class(part.get('type'), scope) or object, ClsHead)]
    counts = [head.num_classes for head in heads if head.get('num_classes')]
    if not counts:
        return cfg
    metrics = [part for key in cfg if key.endswith('_evaluator') for part in find_dicts(cfg[key])]
    kinds = (METRICS.get('us3l_mm.WidthAccuracy'), Accuracy)
    accuracies = [part for part in metrics if find_class(part.get('type'), scope, METRICS) in kinds]
    for part in [*heads, *accuracies]:
        topk = part.get('topk') or 1
        given = [topk] if isinstance(topk, int) else list(topk)
        kept = [k for k in given if k <= min(counts)] or [1]
        if kept != given:
            part.topk = tuple(kept)
            _tell(f'topk={part.topk} in the place of {topk}: there are {min(counts)} classes')
    return cfg


def _folder_sets(cfg: Config, loader: str) -> Iterator[tuple[ConfigDict, CustomDataset]]:
    """Yield the labelled sets of folders of a data loader: the config and the data set, which has read nothing."""
    scope = cfg.get('default_scope')
    for _, part in find_datasets(cfg, [loader]):
        if find_class(part.get('type'), scope, DATASETS) in (CustomDataset, ImageNet, ClassFolders):
            built = build_lazily(part, scope)
            if built.with_label:
                yield part, built


def _in_order(place: str, found: list[str], names: Sequence[str] | None, by_name: bool) -> list[str]:
    """Bring the names of folders into the order of their labels.

    Args:
        place (str): Folder of the training split.
        found (list[str]): Its folders, sorted.
        names (Sequence[str], optional): Names of classes in the config: of folders, or to show for the sorted folders.
        by_name (bool): Whether they must be names of folders.

    Raises:
        ValueError: If they must and are not, or they are more or fewer than the folders.
    """
    if names is None or set(names) == set(found):
        return list(names or found)
    unknown = [name for name in names if name not in found]
    if by_name and unknown:
        raise ValueError(f'{place} has no folder of the classes {with_nearest(unknown, found)}')
    if len(names) != len(found):
        differ = with_nearest(sorted(set(names) ^ set(found)), ())
        raise ValueError(
            f'the config names {len(names)} classes, {place} has {len(found)} folders; they differ in {differ}'
        )
    return found


def _refuse_numbers(built: CustomDataset, place: str, folders: list[str]) -> None:
    """Raise ValueError if the labels in ImageNet's annotation file are not those of the folders."""
    if type(built) is ImageNet and len(folders) != _IMAGENET:
        raise ValueError(
            f'{built.ann_file} has the labels of {_IMAGENET} classes, {place} has {len(folders)} folders: sort the '
            'images into folders, and move the file away'
        )


def _tell_missing(place: str, rest: list[tuple[ConfigDict, CustomDataset]]) -> None:
    """Warn if folders will be numbered without those of the training split."""
    for _, built in rest:
        if type(built) is CustomDataset and not built.ann_file and osp.isdir(built.img_prefix):
            _tell(f'no folder {place}: labels of {built.img_prefix} are right only if it has all classes')


def _tell(text: str) -> None:
    print_log(text, 'current', logging.WARNING)
