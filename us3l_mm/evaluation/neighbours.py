"""Whether the nearest neighbours of images stay the same from width to width.

Shapes: N images, C channels.
"""

import torch
from torch import Tensor

from us3l_mm.slim import check_count

from .knn import nearest_neighbours


def other_neighbours(features: Tensor, k: int) -> Tensor:
    """Find the other images whose features have the highest cosine similarity to those of each image.

    Args:
        features (Tensor): Features (N, C).
        k (int): Neighbours of each image, below N.

    Returns:
        Tensor: Indices (N, k), the nearest first.

    Raises:
        ValueError: If there are not that many other images.
    """
    count = len(features)
    if check_count('k', k) >= count:
        raise ValueError(f'{k} neighbours of each image need more than {k} images, got {count}')
    _, index = nearest_neighbours(features, features, k + 1)
    own = index == torch.arange(count, device=index.device)[:, None]
    own[~own.any(dim=1), -1] = True  # among many equal images, it may not have found itself
    return index[~own].view(count, k)


def neighbour_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Share (N,) of the neighbours of each image, (N, k), that are among its other neighbours, (N, k)."""
    return (first[:, :, None] == second[:, None]).any(dim=2).double().mean(dim=1)


def planar_agreement(points: Tensor, labels: Tensor) -> float:
    """Percentage of points (N, 2) whose nearest other point has the same label, of (N,)."""
    distances = torch.cdist(points.double(), points.double()).fill_diagonal_(torch.inf)
    return 100 * (labels[distances.argmin(dim=1)] == labels).double().mean().item()
