"""A part of a labelled set with few labels of each class."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_count, check_dict, check_number


def parse_few(text: str) -> float | int:
    """Read how many labels to draw: ``'1%'`` becomes the share 0.01, ``'10'`` the number 10 of each class.

    Raises:
        ValueError: If it is neither.
    """
    try:
        if text.endswith('%'):
            return check_number('few labels', float(text[:-1]), '(0, 100)') / 100
        return check_count('few labels', int(text))
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"few labels are a share such as '1%', or a number of each class such as '10', got {text!r}"
        ) from error


def draw_few(labels: Tensor, few: str, seed: int) -> Tensor:
    """Draw few images of each class.

    Args:
        labels (Tensor): Labels of shape (N,).
        few (str): See :func:`parse_few`. Of a share, each class has its part, rounded, and one image at least.
        seed (int): Seed of the draw.

    Returns:
        Tensor: Indices of the images, in rising order.

    Raises:
        ValueError: If a class has fewer images than the number.
    """
    wanted = parse_few(few)
    generator = torch.Generator().manual_seed(check_count('seed', seed, least=0))
    chosen = []
    for label in labels.unique().tolist():
        places = (labels == label).nonzero()[:, 0]
        count = wanted if isinstance(wanted, int) else max(round(wanted * len(places)), 1)
        if count > len(places):
            raise ValueError(f'few labels: {few} of each class, but class {label} has {len(places)} images')
        chosen.append(places[torch.randperm(len(places), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


@DATASETS.register_module()
class FewLabels(Dataset):
    """A seeded draw of few images of each class of another data set, for semi-supervised learning.

    Args:
        dataset (dict): Config of the other data set.
        few (str): ``'1%'`` of each class, or ``'10'`` images of each; see :func:`draw_few`.
        seed (int): Seed of the draw. Defaults to 0.

    Raises:
        ValueError: If ``few`` is neither, or a class has fewer images than that.
    """

    def __init__(self, dataset: dict, few: str, seed: int = 0) -> None:
        parse_few(few)
        check_count('seed', seed, least=0)
        self.dataset = DATASETS.build(check_dict('dataset', dataset, 'type'))
        self.metainfo = self.dataset.metainfo
        self.indices = draw_few(labels_of(self.dataset), few, seed).tolist()

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Describe an image as the other data set does."""
        return self.dataset.get_data_info(self.indices[index])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]


def labels_of(dataset: Any) -> Tensor:
    """Collect the labels (N,) of a data set of mmengine's kind, without loading images.

    Raises:
        ValueError: If images have no labels.
    """
    found = [dataset.get_data_info(index).get('gt_label') for index in range(len(dataset))]
    if None in found:
        raise ValueError(f'{type(dataset).__name__} has images without a label')
    return torch.tensor(found)
