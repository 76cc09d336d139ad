"""Labelled images in one folder for each class, numbered alike in all splits."""

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.custom import find_folders, get_samples

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_list
from us3l_mm.utils.nearest import with_nearest


@DATASETS.register_module()
class ClassFolders(ImageNet):
    """Images in one folder for each class, with labels by the names of the folders.

    mmpretrain's ``CustomDataset`` numbers the folders of each split by themselves, so that a class missing in one
    split moves the labels of all that follow. When our tools read a config, they put this class in its place.

    Args:
        folders (Sequence[str]): Names of the folders in the order of their labels, those of the training split.
        **kwargs: As for :class:`mmpretrain.datasets.ImageNet`; ``classes`` of ``metainfo``, names to show, defaults to
            ``folders``.

    Raises:
        ValueError: If the split has a folder that is not in ``folders``.
    """

    METAINFO: dict = {}

    def __init__(self, *args, folders: Sequence[str], **kwargs) -> None:
        self.folders = check_list('folders', folders, str)
        kwargs['metainfo'] = {'classes': tuple(folders), **(kwargs.get('metainfo') or {})}
        super().__init__(*args, **kwargs)

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
        return samples


def refuse_unknown(place: str, found: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError if a split has folders that training has not."""
    unknown = [name for name in found if name not in set(known)]
    if unknown:
        raise ValueError(
            f'{place} has folders that are no class of the training split: {with_nearest(unknown, known)}; rename or '
            'remove them, or add them to training'
        )
