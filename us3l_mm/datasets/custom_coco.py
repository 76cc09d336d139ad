"""Detection data sets in COCO's format, checked when they are loaded."""

import os.path as osp

from mmdet.datasets import CocoDataset

from us3l_mm.registry import DATASETS

from .coco_file import NamedCOCO
from .found import UNUSABLE_BOXES, cut_box, first_names, image_size, refuse


@DATASETS.register_module()
class CustomCOCO(CocoDataset):
    """Detection data set in COCO's format with labels by the names of the classes, in their order.

    mmdet's ``CocoDataset`` numbers classes as the file lists them, whatever the order of ``classes``, and drops names
    that the file lacks. Here they are errors, and so are missing images and whatever has no clear meaning, see
    :class:`us3l_mm.datasets.coco_file.NamedCOCO`. Boxes are cut to the image, those without area or of categories that
    are not in ``classes`` are left out, and a warning counts all. The size that counts is that of the image as it is
    read. Images are looked at only if they are files of this machine (no ``backend_args``).

    Args:
        metainfo (dict): ``classes``, names of categories in the file. Defaults to COCO's 80.
        **kwargs: As for :class:`mmdet.datasets.CocoDataset`.

    Raises:
        FileNotFoundError: If the annotation file or an image is missing.
        ValueError: If ``classes`` names a category that the file lacks, an image cannot be read, the file is not
            sound, or no image has a box of the classes.
    """

    COCOAPI = NamedCOCO

    def load_data_list(self) -> list[dict]:
        """List the images with their boxes (x1, y1, x2, y2), in pixels."""
        if not osp.isfile(self.ann_file) and self.backend_args is None:
            raise FileNotFoundError(f'no annotation file {self.ann_file}; check data_root={self.data_root}')
        self._missing, self._faults, self._annotated = [], [], True
        data = super().load_data_list()
        if self._missing:
            raise FileNotFoundError(
                f'{len(self._missing)} of the {len(data)} images of {self.ann_file} are not in '
                f'{self.data_prefix["img"]}, such as {first_names(self._missing)}; add them, or set data_prefix'
            )
        refuse(self.ann_file, self._faults)
        self.findings.warn()
        if self._annotated and not any(info['instances'] for info in data):
            raise ValueError(
                f'{self.ann_file}: none of its {len(data)} images has a box of {list(self.metainfo["classes"])}'
            )
        return data

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse one image as :class:`mmdet.datasets.CocoDataset` does, after a check of its size and its boxes."""
        self.findings = self.coco.findings
        self._annotated = not self.test_mode or 'annotations' in self.coco.dataset
        image = dict(raw_data_info['raw_img_info'])
        if self.backend_args is None:
            try:
                self._set_size(image)
            except FileNotFoundError:
                self._missing.append(image['file_name'])
                return {}
            except ValueError as error:
                self._faults.append(str(error))
                return {}
        boxes = [self._check(item, image) for item in raw_data_info['raw_ann_info']]
        return super().parse_data_info(
            dict(raw_img_info=image, raw_ann_info=[item for item in boxes if item is not None])
        )

    def _set_size(self, image: dict) -> None:
        """Write the size of the image file into its entry."""
        height, width = image_size(osp.join(self.data_prefix['img'], image['file_name']))
        name, stated = image['file_name'], (image.get('width'), image.get('height'))
        if not all(stated):
            self.findings.add('images without their size, which is that of the image file', name)
        elif stated != (width, height):
            sizes = f'{stated[0]} x {stated[1]}, image {width} x {height}'
            self.findings.add('images of another size than stated, in whose pixels boxes count', name, sizes)
        image.update(height=height, width=width)

    def _check(self, item: dict, image: dict) -> dict | None:
        """Return an annotation with its box cut to the image, or None if it is left out."""
        if item['category_id'] not in self.cat2label:
            name = self.coco.cats[item['category_id']]['name']
            self.findings.add('boxes of categories that are not in `classes`, left out', name)
            return None
        x, y, width, height = item['bbox']
        box = [x, y, x + width, y + height]
        inside = cut_box(box, image['height'], image['width'], self.findings, image['file_name'])
        if inside is None:
            return None
        if min(inside[2] - inside[0], inside[3] - inside[1]) < 1:  # mmdet drops them without a word
            self.findings.add(UNUSABLE_BOXES[3], image['file_name'])
            return None
        if inside != box:
            item = {**item, 'bbox': [*inside[:2], inside[2] - inside[0], inside[3] - inside[1]]}
        return item
