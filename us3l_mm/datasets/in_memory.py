"""Small images held in memory as one tensor, so that a batch is one indexing operation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from us3l_mm.registry import DATASETS, FUNCTIONS
from us3l_mm.slim import check_choice, check_dict


@DATASETS.register_module()
class InMemory(Dataset):
    """The images of another data set as one uint8 tensor (images, 3, height, width), without labels.

    For images of one size that are augmented by ``BatchedViewsPreprocessor``. Its data loader needs
    ``collate_fn=dict(type='us3l_mm.take_batch')`` and no workers, which would have nothing to do.

    Args:
        dataset (dict): Config of the other data set. Its pipeline runs once for each image, at the start, and must
            give ``img``, uint8 (height, width, 3): an empty one for CIFAR, LoadImageFromFile and a resize for files.
        device (str): ``auto`` holds the images where mmengine trains, on the GPU if there is one: no batch is copied
            to it. The data loader then needs ``pin_memory=False``. Defaults to ``cpu``.

    Raises:
        ValueError: If there is no such image, its size is not that of the first one, or a worker takes images from a
            GPU.
    """

    def __init__(self, dataset: dict, device: str = 'cpu') -> None:
        check_choice('device', device, ('cpu', 'auto'))
        source = DATASETS.build(check_dict('dataset', dataset, 'type'))
        self.metainfo = source.metainfo
        images = []
        for index in range(len(source)):
            image = source[index].get('img')
            shape = images[0].shape if images else (*np.shape(image)[:2], 3)
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != shape:
                found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
                raise ValueError(
                    f"'img' of image {index} of {type(source).__name__} must be uint8 (height, width, 3), all of one "
                    f'size, got {found}; load and resize images in its pipeline, without PackInputs'
                )
            images.append(image)
        planes = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # as they are augmented
        self.images = planes.to(get_device() if device == 'auto' else device)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        """One image, ``inputs``; torch's loader prefers :meth:`__getitems__`."""
        return dict(inputs=self._take([index])[0], data_samples=None)

    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A whole batch, which torch's loader asks for: ``inputs``, uint8 (N, 3, height, width)."""
        return _Batch(inputs=self._take(list(indices)), data_samples=None)

    def _take(self, indices: list[int]) -> Tensor:
        """Pick images on their device, without waiting for it."""
        if get_worker_info() is not None and not self.images.is_cpu:
            raise ValueError(
                f'workers cannot read images of InMemory that are on {self.images.device}: set num_workers=0, or '
                "device='cpu' of InMemory"
            )
        chosen = torch.tensor(indices)
        chosen = chosen.pin_memory() if self.images.is_cuda else chosen
        return self.images[chosen.to(self.images.device, non_blocking=True)]


class _Batch(dict):
    """A batch, with a clear error from collate functions that expect a list of images."""

    def __missing__(self, key: object) -> None:
        raise KeyError("us3l_mm.InMemory gives whole batches: set collate_fn=dict(type='us3l_mm.take_batch')")


@FUNCTIONS.register_module()
def take_batch(batch: Any) -> Any:
    """Return ``batch``: the collate function of data sets that give whole batches."""
    return batch
