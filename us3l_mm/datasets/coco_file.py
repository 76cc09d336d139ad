"""Annotation files in COCO's format, checked when they are read."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmdet.datasets.api_wrappers import COCO

from us3l_mm.utils.nearest import with_nearest

from .found import Findings, refuse

_FIELDS = {
    'images': ('id', 'file_name'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox'),
}
_UNIQUE = (('images', 'id'), ('categories', 'id'), ('categories', 'name'), ('annotations', 'id'))


class NamedCOCO(COCO):
    """mmdet's index of a COCO file, which finds categories by their names, in the order of the names.

    An annotation without ``iscrowd`` is no crowd, one without a positive ``area`` has that of its box.

    Args:
        annotation_file (str): JSON file.

    Raises:
        ValueError: If the file is no JSON of COCO's format, without images or categories, has an identifier or a
            category's name twice, or annotations without box or of unknown images or categories.
    """

    def __init__(self, annotation_file: str) -> None:
        super().__init__()
        self.findings = Findings(annotation_file)
        self.dataset = _read(annotation_file)
        refuse(annotation_file, list(_incomplete(self.dataset)))
        refuse(annotation_file, list(_contradictions(self.dataset)))
        for item in self.dataset.get('annotations', ()):
            item.setdefault('iscrowd', 0)
            if not item.get('area') or item['area'] < 0:
                self.findings.add('annotations without area, which is that of the box', f'id {item["id"]}')
                item['area'] = item['bbox'][2] * item['bbox'][3]
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs  # mmdet's names, of the index before

    def get_cat_ids(self, cat_names: Sequence[str] = (), *args, **kwargs) -> list[int]:
        """List the identifiers of the categories of these names, one for each and in their order.

        Raises:
            ValueError: If the file has no category of that name.
        """
        if not cat_names:
            return super().get_cat_ids(cat_names, *args, **kwargs)
        known = {category['name']: identifier for identifier, category in self.cats.items()}
        unknown = [name for name in cat_names if name not in known]
        if unknown:
            raise ValueError(
                f'{self.findings.source}: unknown classes {with_nearest(unknown, list(known))}; its categories are '
                f'{", ".join(map(repr, known))}; name them by `classes`, such as --cfg-options classes=cat,dog'
            )
        return [known[name] for name in cat_names]


def _read(path: str) -> dict:
    """Read the file, with or without a byte order mark."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except ValueError as error:  # of the encoding, too
        raise ValueError(f'cannot read {path} as JSON: {error}') from error
    for key in _FIELDS:
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list) and not (key == 'annotations' and items is None):
            raise ValueError(f'{path} is no COCO file of boxes: it needs a list {key!r}, got {type(items).__name__}')
        if not items and key != 'annotations':
            raise ValueError(f'{path}: its list {key!r} is empty')
    return content


def _incomplete(content: dict) -> Iterator[str]:
    """Yield what the parts of the file lack."""
    for key, fields in _FIELDS.items():
        for number, item in enumerate(content.get(key, ())):
            missing = [field for field in fields if not isinstance(item, dict) or item.get(field) is None]
            if missing:
                yield f'{key}[{number}] has no {", ".join(missing)}'
            elif key == 'annotations' and not _is_box(item['bbox']):
                yield f'{key}[{number}].bbox must be four numbers (x, y, width, height), got {item["bbox"]}'


def _contradictions(content: dict) -> Iterator[str]:
    """Yield what occurs twice, and what annotations refer to that is not there."""
    for key, field in _UNIQUE:
        counts = Counter(item[field] for item in content.get(key, ()))
        yield from (f'{field} {value!r} occurs {count} times in {key}' for value, count in counts.items() if count > 1)
    known = {
        'image_id': {image['id'] for image in content['images']},
        'category_id': {category['id'] for category in content['categories']},
    }
    for item in content.get('annotations', ()):
        for field, values in known.items():
            if item[field] not in values:
                yield f'annotation {item["id"]} has the unknown {field} {item[field]!r}'


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in box)
    )
