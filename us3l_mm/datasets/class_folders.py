"""Labelled images in one folder for each class, numbered alike in all splits."""

import hashlib
import logging
import os.path as osp
from collections.abc import Sequence

from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.custom import find_folders, get_samples

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_choice, check_list, check_number
from us3l_mm.utils.nearest import with_nearest

from .image_bytes import IMAGE_EXTENSIONS


@DATASETS.register_module()
class ClassFolders(ImageNet):
    """Images in one folder for each class, with labels by the names of the folders.

    mmpretrain's ``CustomDataset`` numbers the folders of each split by themselves, so that a class missing in one
    split moves the labels of all that follow. When our tools read a config, they put this class in its place.

    Args:
        folders (Sequence[str]): Names of the folders in the order of their labels, those of the training split.
        val_fraction (float, optional): Share of the images of each class to keep for tests, in (0, 1), where both
            splits are one folder. Which they are goes by the names of the files, not by how many there are. Defaults to
            None.
        part (str): With ``val_fraction``: ``'train'`` or ``'val'``. Defaults to ``'train'``.
        **kwargs: As for :class:`mmpretrain.datasets.ImageNet`; ``classes`` of ``metainfo``, names to show, defaults to
            ``folders``, ``extensions`` to all that load, .webp and .gif among them.

    Raises:
        ValueError: If the split has a folder that is not in ``folders``, or a class is too small to be divided.
    """

    METAINFO: dict = {}

    def __init__(
        self, *args, folders: Sequence[str], val_fraction: float | None = None, part: str = 'train', **kwargs
    ) -> None:
        self.folders = check_list('folders', folders, str)
        self.val_fraction = None if val_fraction is None else check_number('val_fraction', val_fraction, '(0, 1)')
        self.part = check_choice('part', part, ('train', 'val'))
        kwargs['metainfo'] = {'classes': tuple(folders), **(kwargs.get('metainfo') or {})}
        super().__init__(*args, **{'extensions': IMAGE_EXTENSIONS, **kwargs})

    def _find_samples(self) -> list[tuple[str, int]]:
        """List paths below the folder of the split with their labels."""
        found = find_folders(self.img_prefix)[0]
        refuse_unknown(self.img_prefix, found, self.folders)
        self.folder_to_idx = {name: label for label, name in enumerate(self.folders) if name in found}
        samples, empty = get_samples(self.img_prefix, self.folder_to_idx, is_valid_file=self.is_valid_file)
        if not samples:
            raise ValueError(f'{self.img_prefix} has no images; they end in {", ".join(sorted(self.extensions))}')
        missing = [name for name in self.folders if name not in found or name in empty]
        if missing:
            text = f'{self.img_prefix}: no image of {len(missing)} of the {len(self.folders)} classes: '
            print_log(text + ', '.join(missing[:5]), 'current', logging.WARNING)
        return samples if self.val_fraction is None else self._divide(samples)

    def _divide(self, samples: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Leave the samples of one part."""
        chosen = []
        for label, name in enumerate(self.folders):
            own = [sample for sample in samples if sample[1] == label]
            count = round(self.val_fraction * len(own))
            if own and not 0 < count < len(own):
                raise ValueError(
                    f'val_fraction={self.val_fraction} of the {len(own)} images of {name!r} in {self.img_prefix} '
                    'leaves none to train on or none to test on; add images, or change it'
                )
            by_name = sorted(own, key=lambda sample: hashlib.sha256(osp.basename(sample[0]).encode()).digest())
            chosen += sorted(by_name[:count] if self.part == 'val' else by_name[count:])
        return chosen


def refuse_unknown(place: str, found: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError if a split has folders that training has not."""
    unknown = [name for name in found if name not in set(known)]
    if unknown:
        raise ValueError(
            f'{place} has folders that are no class of the training split: {with_nearest(unknown, known)}; rename or '
            'remove them, or add them to training'
        )
