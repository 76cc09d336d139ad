"""Say what a data set needs, and where it comes from, before a run finds out that it is not there."""

import os.path as osp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from us3l_mm.registry import DATASETS

from .find import build_lazily, find_class, find_datasets

_OWN = 'It is made of your own images'
# By the name of the class or of one that it derives from, the first that fits: where to get it, what data_root holds.
_SOURCES = {
    'CIFAR10': ('Get it from https://www.cs.toronto.edu/~kriz/cifar.html', 'cifar-10-batches-py/'),
    'CIFAR100': ('Get it from https://www.cs.toronto.edu/~kriz/cifar.html', 'cifar-100-python/'),
    'DTD': ('Get it from https://www.robots.ox.ac.uk/~vgg/data/dtd/', 'images/, labels/ and imdb/imdb.mat'),
    'Flowers102': (
        'Get it from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/',
        'jpg/, imagelabels.mat and setid.mat',
    ),
    'OxfordIIITPet': (
        'Get it from https://www.robots.ox.ac.uk/~vgg/data/pets/',
        'images/, annotations/trainval.txt and annotations/test.txt',
    ),
    'Caltech101': (
        'Get it from https://data.caltech.edu/records/mzrjq-6wc02 and its splits, meta/, from '
        'https://download.openmmlab.com/mmpretrain/datasets/caltech_meta.zip',
        '101_ObjectCategories/, meta/train.txt and meta/test.txt',
    ),
    'FGVCAircraft': (
        'Get it from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/',
        'data/images/, data/images_variant_trainval.txt and data/images_variant_test.txt',
    ),
    'Food101': (
        'Get it from https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/',
        'images/, meta/train.txt and meta/test.txt',
    ),
    'ClassFolders': (_OWN, 'train/CLASS/*.jpg and val/CLASS/*.jpg'),
    'ImageNet': ('Get it from https://www.image-net.org/download.php', 'train/CLASS/*.JPEG and val/CLASS/*.JPEG'),
    'CustomDataset': (_OWN, 'the folders of data_prefix'),
    'CustomVOC': (_OWN, 'JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{train,val}.txt'),
    'VOCDataset': (
        'Get it from http://host.robots.ox.ac.uk/pascal/VOC/',
        'VOC2007/ and VOC2012/, each with JPEGImages/, Annotations/ and ImageSets/Main/',
    ),
    'CocoDataset': (
        'Get it from https://cocodataset.org/#download, if it is not your own',
        'annotations/instances_{train,val}2017.json, train2017/ and val2017/, or what ann_file and data_prefix name',
    ),
}


@dataclass(frozen=True)
class MissingData:
    """A data set whose files are not there.

    Attributes:
        place (str): Its place in the config, such as ``'train_dataloader.dataset'``.
        path (str): The first file or folder that is missing.
        kind (str): Name of its class.
        source (str): A sentence: where to get it.
        layout (str): What its ``data_root`` must hold.
        built (Any): The data set, which has read nothing.
    """

    place: str
    path: str
    kind: str
    source: str
    layout: str
    built: Any


def find_missing(cfg: Config, loaders: Sequence[str]) -> MissingData | None:
    """Find the first data set of a known kind in a config whose files are not there and will not be downloaded.

    Args:
        cfg (Config): Config.
        loaders (Sequence[str]): Entries that will be built, such as ``'train_dataloader'``.
    """
    scope, coming = cfg.get('default_scope'), set()
    for place, part in find_datasets(cfg, loaders):
        kind = find_class(part.get('type'), scope, DATASETS)
        known = [base.__name__ for base in getattr(kind, '__mro__', ()) if base.__name__ in _SOURCES]
        if not known or part.get('backend_args'):
            continue
        built = build_lazily(part, scope)
        if getattr(built, 'download', False):
            coming.add(built.data_root)  # an archive has all splits
        missing = [path for path in _needed(built) if not osp.exists(path)]
        if missing and built.data_root not in coming:
            return MissingData(place, missing[0], kind.__name__, *_SOURCES[known[0]], built)
    return None


def require_data(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that the data sets of a config are there; arguments as for :func:`find_missing`.

    Raises:
        FileNotFoundError: If a file or folder of a known kind of data set is missing. It says which, where to get the
            set, and its layout.
    """
    found = find_missing(cfg, loaders)
    if found is not None:
        raise FileNotFoundError(
            f'{found.place}: no {found.path} for {found.kind}. {found.source}{_download(found.place, found.built)}. '
            f'data_root, here {found.built.data_root!r}, must hold {found.layout}. If it lies elsewhere: --cfg-options '
            'data_root=FOLDER'
        )


def _needed(built: Any) -> Iterator[str]:
    """Yield the files and folders on this machine that a data set reads."""
    paths = [built.data_root, built.ann_file, *built.data_prefix.values()]
    if hasattr(built, 'base_folder'):  # that of CIFAR's archive
        paths.append(osp.join(built.data_prefix['root'], built.base_folder))
    yield from (path for path in paths if path and '://' not in path)


def _download(place: str, built: Any) -> str:
    return f', or by --cfg-options {place}.download=True' if hasattr(built, 'download') else ''
