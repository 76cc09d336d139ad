"""Detection data sets in Pascal VOC's XML format, checked when they are loaded."""

import glob
import logging
import os.path as osp
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

import mmcv
from mmdet.datasets import XMLDataset
from mmengine.logging import print_log

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_list

from .image_bytes import IMAGE_EXTENSIONS


@DATASETS.register_module()
class CustomVOC(XMLDataset):
    """Detection data set of ``JPEGImages``, ``Annotations`` and a list of names without suffix for each split.

    mmdet's ``XMLDataset`` checks nothing: it drops objects of unknown classes, and boxes without area make losses
    infinite. Here unknown classes and missing files are errors. Boxes are cut to the image, those without area are
    left out, and a warning counts both.

    Args:
        ann_file (str): Text file with one name a line, such as ``ImageSets/Main/train.txt``.
        metainfo (dict): ``classes``, the names that the XML files use.
        ignored_classes (Sequence[str]): Names in the XML files that are left out on purpose.
        **kwargs: As for :class:`mmdet.datasets.XMLDataset`.

    Raises:
        FileNotFoundError: If the list of the split, an image or an XML file is missing.
        ValueError: If a split has no image or no box, an XML file cannot be read or names an unknown class, or
            ``classes`` is missing.
    """

    def __init__(self, *args, ignored_classes: Sequence[str] = (), **kwargs) -> None:
        self.ignored_classes = frozenset(check_list('ignored_classes', ignored_classes, str, least=0))
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their boxes (x1, y1, x2, y2), in pixels from 0."""
        if not self.metainfo.get('classes'):
            raise ValueError('no classes: set metainfo=dict(classes=...), or `--cfg-options classes=cat,dog`')
        self.cat2label = {name: label for label, name in enumerate(self.metainfo['classes'])}
        folder = self.sub_data_root
        names = self._read_names()
        images = {}  # by name; one listing is fast for very many files
        for path in sorted(glob.glob(osp.join(glob.escape(osp.join(folder, self.img_subdir)), '*'))):
            stem, suffix = osp.splitext(osp.basename(path))
            if suffix.lower() in IMAGE_EXTENSIONS:
                images.setdefault(stem, path)
        annotations = {name: osp.join(folder, self.ann_subdir, f'{name}.xml') for name in names}
        self._refuse_missing('image', self.img_subdir, [name for name in names if name not in images])
        no_file = [name for name in names if not osp.isfile(annotations[name])]
        self._refuse_missing('XML file', self.ann_subdir, no_file)
        self._unknown, self._repaired = Counter(), Counter()
        data = [
            self.parse_data_info(
                dict(img_id=name, file_name=osp.relpath(images[name], folder), xml_path=annotations[name])
            )
            for name in names
        ]
        self._report()
        if not any(info['instances'] for info in data):
            raise ValueError(f'{self.ann_file}: none of its {len(names)} images has a box of {list(self.cat2label)}')
        return data

    def parse_data_info(self, img_info: dict) -> dict:
        """Parse an annotation as :class:`mmdet.datasets.XMLDataset` does, and cut its boxes to the image."""
        try:
            info = super().parse_data_info(img_info)
        except (ET.ParseError, AttributeError, ValueError) as error:
            raise ValueError(f'cannot read {img_info["xml_path"]} as a VOC annotation: {error}') from error
        if not info['height'] or not info['width']:  # some tools write zeros
            info['height'], info['width'] = mmcv.imread(info['img_path']).shape[:2]
        kept = []
        for instance in info['instances']:
            x1, y1, x2, y2 = instance['bbox']
            box = [max(x1, 0), max(y1, 0), min(x2, info['width']), min(y2, info['height'])]
            if x1 >= x2 or y1 >= y2:
                self._repaired['without area, left out'] += 1
            elif box[0] >= box[2] or box[1] >= box[3]:
                self._repaired['outside the image, left out'] += 1
            else:
                if max(abs(a - b) for a, b in zip(box, instance['bbox'])) > 1:  # 1 is a box counted from 0 instead of 1
                    self._repaired['beyond the image, cut to it'] += 1
                kept.append({**instance, 'bbox': box})
        info['instances'] = kept
        return info

    def _parse_instance_info(self, raw_ann_info: ET.ElementTree, minus_one: bool = True) -> list[dict]:
        names = [item.find('name').text for item in raw_ann_info.findall('object')]
        self._unknown.update(name for name in names if name not in self.cat2label and name not in self.ignored_classes)
        return super()._parse_instance_info(raw_ann_info, minus_one)

    def _read_names(self) -> list[str]:
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'no list of the names of the split in {self.ann_file}; check data_root={self.data_root}'
            )
        with open(self.ann_file, encoding='utf-8') as file:
            names = [line.strip() for line in file if line.strip()]
        if not names:
            raise ValueError(f'{self.ann_file} is empty: a split needs at least one image')
        return names

    def _refuse_missing(self, what: str, folder: str, names: list[str]) -> None:
        if names:
            raise FileNotFoundError(
                f'{len(names)} names of {self.ann_file} have no {what} in {osp.join(self.sub_data_root, folder)}, '
                f'such as {", ".join(names[:3])}; add the files or remove the names'
            )

    def _report(self) -> None:
        """Raise for unknown classes, warn of boxes that were changed or left out."""
        if self._unknown:
            found = ', '.join(f'{name!r} ({count} objects)' for name, count in self._unknown.most_common())
            raise ValueError(
                f'{self.ann_file}: unknown classes {found}; known are {", ".join(map(repr, self.cat2label))}; add '
                'them to `classes`, or to `ignored_classes` of the data set'
            )
        for what, count in self._repaired.items():
            print_log(f'{self.ann_file}: {count} boxes {what}', 'current', logging.WARNING)
