"""Weighted k-nearest-neighbour classification of frozen features.

Shapes: N training images, M test images, C channels, K classes.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, section 3.4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from us3l_mm.slim import check_count, check_number

_CHUNK = 8192  # images of either set at a time: 256 MiB of similarities in float32


@torch.no_grad()
def nearest_neighbours(train: Tensor, test: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the training images of the highest cosine similarity to each test image.

    Args:
        train (Tensor): Features of shape (N, C); they are read in chunks, so that they may be memory-mapped.
        test (Tensor): Features of shape (M, C).
        k (int): Neighbours of each, at most N.

    Returns:
        tuple[Tensor, Tensor]: Cosine similarities and indices into ``train``, each (M, k), the nearest first.

    Raises:
        ValueError: If ``k`` is below one or above N.
    """
    if check_count('k', k) > len(train):
        raise ValueError(f'k must be at most the number of training images, {len(train)}, got {k}')
    similarity = test.new_empty(len(test), 0)
    index = torch.empty(len(test), 0, dtype=torch.long, device=test.device)
    queries = F.normalize(test, dim=1)
    for start in range(0, len(train), _CHUNK):
        keys = F.normalize(train[start : start + _CHUNK].to(queries), dim=1)
        found = [(part @ keys.T).topk(min(k, len(keys))) for part in queries.split(_CHUNK)]
        similarity = torch.cat([similarity, torch.cat([values for values, _ in found])], dim=1)
        index = torch.cat([index, start + torch.cat([places for _, places in found])], dim=1)
        similarity, kept = similarity.topk(min(k, similarity.size(1)))
        index = index.gather(1, kept)
    return similarity, index


def vote(similarity: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    r"""Let neighbours vote for their classes, each with weight :math:`\exp(\cos / T)`.

    Args:
        similarity (Tensor): Cosine similarities of shape (M, k).
        labels (Tensor): Labels of the neighbours, of shape (M, k), from 0.
        temperature (float): :math:`T`. Defaults to 0.07.

    Returns:
        Tensor: Labels of shape (M,).
    """
    check_number('temperature', temperature, '(0, inf)')
    weight = ((similarity - similarity[:, :1]) / temperature).exp()  # of the nearest 1: a factor that cancels
    votes = weight.new_zeros(len(labels), int(labels.max()) + 1).scatter_add_(1, labels, weight)  # (M, K)
    return votes.argmax(dim=1)


def knn_predict(train: Tensor, train_labels: Tensor, test: Tensor, k: int, temperature: float = 0.07) -> Tensor:
    """Predict labels by the weighted votes of the nearest neighbours.

    Args:
        train (Tensor): Features of shape (N, C).
        train_labels (Tensor): Their labels, of shape (N,).
        test (Tensor): Features of shape (M, C).
        k (int): Neighbours that vote, at most N.
        temperature (float): See :func:`vote`. Defaults to 0.07.

    Returns:
        Tensor: Labels of shape (M,).

    Raises:
        ValueError: If ``k`` is below one or above N.
    """
    similarity, index = nearest_neighbours(train, test, k)
    return vote(similarity, train_labels.to(index.device)[index], temperature)


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int, temperature: float = 0.07
) -> float:
    """Compute the accuracy of :func:`knn_predict` in percent; arguments as there, with the labels (M,) of ``test``."""
    predicted = knn_predict(train, train_labels, test, k, temperature)
    return 100 * (predicted == test_labels.to(predicted.device)).double().mean().item()
