"""Detection data sets in Pascal VOC's XML format, checked when they are loaded."""

import glob
import math
import os.path as osp
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

from mmdet.datasets import XMLDataset

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_list

from .found import Findings, cut_box, first_names, image_size, refuse
from .image_bytes import IMAGE_EXTENSIONS


@DATASETS.register_module()
class CustomVOC(XMLDataset):
    """Detection data set of ``JPEGImages``, ``Annotations`` and a list of names without suffix for each split.

    mmdet's ``XMLDataset`` checks nothing: it drops objects of unknown classes, and boxes without area make losses
    infinite. Here unknown classes, missing files and elements without a clear meaning are errors. Boxes are cut to the
    image, those without area are left out, and a warning counts both.

    The size that counts is that of the image as it is read, turned upright by its EXIF data, whatever ``<size>`` says;
    the warning counts where they differ.

    Args:
        ann_file (str): Text file with one name a line, such as ``ImageSets/Main/train.txt``.
        metainfo (dict): ``classes``, the names that the XML files use.
        ignored_classes (Sequence[str]): Names in the XML files that are left out on purpose.
        **kwargs: As for :class:`mmdet.datasets.XMLDataset`.

    Raises:
        FileNotFoundError: If the list of the split, an image or an XML file is missing.
        ValueError: If a split has no image or no box, an XML file or an image cannot be read, an element is missing or
            no number, a class is unknown, the list is one of a single class, or ``classes`` is missing.
    """

    def __init__(self, *args, ignored_classes: Sequence[str] = (), **kwargs) -> None:
        self.ignored_classes = frozenset(check_list('ignored_classes', ignored_classes, str, least=0))
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their boxes (x1, y1, x2, y2), in pixels from 0."""
        if not self.metainfo.get('classes'):
            raise ValueError('no classes: set metainfo=dict(classes=...), or `--cfg-options classes=cat,dog`')
        self.cat2label = {name: label for label, name in enumerate(self.metainfo['classes'])}
        self.findings, self._unknown = Findings(self.ann_file), Counter()
        folder = self.sub_data_root
        names = self._read_names()
        images = self._find_images(names)
        annotations = {name: osp.join(folder, self.ann_subdir, f'{name}.xml') for name in names}
        no_image = [name for name in names if name not in images]
        self._refuse_list_of_a_class(no_image)
        self._refuse_missing('image', self.img_subdir, no_image)
        no_file = [name for name in names if not osp.isfile(annotations[name])]
        self._refuse_missing('XML file', self.ann_subdir, no_file)
        data, faults = [], []
        for name in names:
            file_name = osp.relpath(images[name], folder)
            try:
                data.append(self.parse_data_info(dict(img_id=name, file_name=file_name, xml_path=annotations[name])))
            except ValueError as error:
                faults.append(str(error))
        refuse(self.ann_file, faults)
        self._refuse_unknown()
        self.findings.warn()
        if not any(info['instances'] for info in data):
            raise ValueError(f'{self.ann_file}: none of its {len(names)} images has a box of {list(self.cat2label)}')
        return data

    def parse_data_info(self, img_info: dict) -> dict:
        """Parse an annotation: what :class:`mmdet.datasets.XMLDataset` returns, with boxes cut to the image."""
        name, xml_path = img_info['img_id'], img_info['xml_path']
        img_path = osp.join(self.sub_data_root, img_info['file_name'])
        height, width = image_size(img_path)
        try:
            root = ET.parse(xml_path).getroot()
            if root.tag != 'annotation':
                raise ValueError(f'its outermost element must be <annotation>, got <{root.tag}>')
            stated = [_number(root, f'size/{key}', 0) for key in ('width', 'height')]
            instances = self._parse_instance_info(root)
        except (ET.ParseError, ValueError) as error:
            raise ValueError(f'cannot read {xml_path} as a VOC annotation: {error}') from error
        if not all(stated):  # some tools write zeros
            self.findings.add('XML files without the size of the image, which is that of the image file', name)
        elif stated != [width, height]:
            sizes = f'{stated[0]:g} x {stated[1]:g}, image {width} x {height}'
            self.findings.add('XML files with another size than the image, in whose pixels boxes count', name, sizes)
        kept = []
        for instance in instances:
            box = cut_box(instance['bbox'], height, width, self.findings, name)
            if box is not None:
                kept.append({**instance, 'bbox': box})
        return dict(img_path=img_path, img_id=name, xml_path=xml_path, height=height, width=width, instances=kept)

    def _parse_instance_info(self, raw_ann_info: ET.Element, minus_one: bool = True) -> list[dict]:
        instances = []
        for number, item in enumerate(raw_ann_info.findall('object'), 1):
            name = (item.findtext('name') or '').strip()
            if name in self.ignored_classes:
                continue
            try:
                if not name:
                    raise ValueError('<name> is missing or empty')
                box = [_number(item, f'bndbox/{key}') - minus_one for key in ('xmin', 'ymin', 'xmax', 'ymax')]
                ignored = _number(item, 'difficult', 0) != 0
            except ValueError as error:
                raise ValueError(f'object {number} {f"({name})" if name else ""}: {error}') from error
            if name not in self.cat2label:
                self._unknown[name] += 1
                continue
            if self.bbox_min_size is not None:
                ignored |= min(box[2] - box[0], box[3] - box[1]) < self.bbox_min_size
            instances.append(dict(bbox=box, bbox_label=self.cat2label[name], ignore_flag=int(ignored)))
        return instances

    def _read_names(self) -> list[str]:
        """Read the list of the split; each name counts once."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'no list of the names of the split in {self.ann_file}; check data_root={self.data_root}'
            )
        with open(self.ann_file, encoding='utf-8-sig') as file:
            names = Counter(line.strip() for line in file if line.strip())
        if not names:
            raise ValueError(f'{self.ann_file} is empty: a split needs at least one image')
        for name, count in names.items():
            if count > 1:
                self.findings.add('names that stand there more than once and count once', name)
        return list(names)

    def _find_images(self, names: list[str]) -> dict[str, str]:
        """Find the image files of names without suffix; one listing is fast for very many files."""
        wanted, images = set(names), {}
        for path in sorted(glob.glob(osp.join(glob.escape(osp.join(self.sub_data_root, self.img_subdir)), '*'))):
            stem, suffix = osp.splitext(osp.basename(path))
            if suffix.lower() not in IMAGE_EXTENSIONS or stem not in wanted:
                continue
            if stem in images:
                self.findings.add(f'names of several files in {self.img_subdir}, the first of which counts', stem)
            images.setdefault(stem, path)
        return images

    def _refuse_list_of_a_class(self, no_image: list[str]) -> None:
        """Raise ValueError for VOC's lists of single classes, in which a number follows each name."""
        matches = [re.fullmatch(r'(.+?)\s+(-1|0|1)', name) for name in no_image]
        lines = {match[1]: match[0] for match in matches if match}
        for name in self._find_images(list(lines)):
            raise ValueError(
                f'{self.ann_file} is a list for one class, with lines such as {lines[name]!r}; take that of the whole '
                'split, such as train.txt, with names alone'
            )

    def _refuse_missing(self, what: str, folder: str, names: list[str]) -> None:
        if names:
            raise FileNotFoundError(
                f'{len(names)} names of {self.ann_file} have no {what} in {osp.join(self.sub_data_root, folder)}, '
                f'such as {first_names(names)}; add the files or remove the names, which stand without suffix'
            )

    def _refuse_unknown(self) -> None:
        if self._unknown:
            found = ', '.join(f'{name!r} ({count} objects)' for name, count in self._unknown.most_common())
            raise ValueError(
                f'{self.ann_file}: unknown classes {found}; known are {", ".join(map(repr, self.cat2label))}; add '
                'them to `classes`, or to `ignored_classes` of the data set'
            )


def _number(item: ET.Element, path: str, default: float | None = None) -> float:
    """Read the number in an element, or the default where there is none.

    Raises:
        ValueError: If it is not finite, or there is none and no default.
    """
    text = item.findtext(path)
    if default is not None and not (text or '').strip():
        return default
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'<{path}> must be a number, got {"no such element" if text is None else repr(text)}')
    return value
