"""What frozen features tell: linear heads, nearest neighbours, few labels.

Shapes: N training images, M test images, C channels, K classes.
"""

import logging
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from us3l_mm.datasets import draw_few

from .features import extract_features
from .knn import nearest_neighbours, vote
from .linear_head import choose_l2, fit_linear_head

NEIGHBOURS = (20, 200)
Split = tuple[dict[float, Tensor], Tensor]  # features (N, C) by width, labels (N,)


def probe_widths(
    backbone: nn.Module,
    widths: Sequence[float],
    train: Iterable[dict],
    test: Iterable[dict],
    preprocessor: BaseDataPreprocessor,
    **options,
) -> list[dict[str, Any]]:
    """Evaluate a frozen backbone at several widths, with features in memory.

    Args:
        backbone (nn.Module): Slimmable backbone, calibrated for the widths.
        widths (Sequence[float]): Widths.
        train (Iterable[dict]): Batches of labelled images to fit heads to, without augmentation.
        test (Iterable[dict]): Batches of labelled images to test on.
        preprocessor (BaseDataPreprocessor): Turns batches into tensors.
        **options: As for :func:`frozen_rows`.

    Returns:
        list[dict[str, Any]]: See :func:`frozen_rows`.
    """
    return frozen_rows(
        *(extract_features(backbone, widths, batches, preprocessor) for batches in (train, test)), **options
    )


def frozen_rows(
    train: Split, test: Split, few: Sequence[str] = (), seeds: int = 3, topk: Sequence[int] = (1,)
) -> list[dict[str, Any]]:
    """Evaluate frozen features: linear heads by L-BFGS, weighted nearest neighbours, and few labels.

    Args:
        train (Split): Features by width, and labels, of the training split.
        test (Split): Those of the test split.
        few (Sequence[str]): Labels to draw, such as ``'1%'`` or ``'10'`` of each class; see
            :func:`us3l_mm.datasets.draw_few`. Defaults to none.
        seeds (int): Draws of few labels. Defaults to 3.
        topk (Sequence[int]): Values of k of top-k accuracies. Defaults to (1,).

    Returns:
        list[dict[str, Any]]: For each width ``width``, ``l2``; in percent ``top<k>`` and ``mean_per_class`` of the
        linear head, ``knn20``, ``knn200`` (None if there are fewer training images), and ``few``, see :func:`spread`,
        by entry.
    """
    labels, truth = train[1], test[1]
    classes = int(max(labels.max(), truth.max())) + 1
    draws = {entry: [draw_few(labels, entry, seed) for seed in range(seeds)] for entry in few}
    left_out = [k for k in NEIGHBOURS if k > len(labels)]
    if left_out:
        text = f'{len(labels)} training images: k-NN of {" and ".join(map(str, left_out))} neighbours is left out'
        print_log(text, 'current', logging.WARNING)
    rows = []
    for width, features in train[0].items():
        tested = test[0][width]
        l2, scores = _fitted(features, labels, tested, classes)
        row = dict(width=width, l2=l2, **accuracies(scores, truth, topk), **_knn(features, labels, tested, truth))
        if draws:
            row['few'] = {
                entry: _spread([_fitted(features[i], labels[i], tested, classes)[1] for i in chosen], truth)
                for entry, chosen in draws.items()
            }
        rows.append(row)
        print_log(f'width {width:g}: top-1 {row["top1"]:.2f} %, l2={l2:g}', 'current')
    return rows


def _fitted(train: Tensor, labels: Tensor, test: Tensor, classes: int) -> tuple[float, Tensor]:
    """Choose l2, fit a head, and score the test images: (M, K)."""
    l2 = choose_l2(train, labels, classes)
    return l2, fit_linear_head(train, labels, classes, l2).scores(test)


def accuracies(scores: Tensor, labels: Tensor, topk: Sequence[int]) -> dict[str, float]:
    """Compute top-k accuracies and the mean of the classes' accuracies, in percent, of scores (M, K)."""
    order = scores.topk(max(topk), dim=1).indices  # (M, k)
    hits = order == labels[:, None]
    by_class = [hits[labels == label, 0].double().mean() for label in labels.unique()]
    found = {f'top{k}': 100 * hits[:, :k].any(dim=1).double().mean().item() for k in topk}
    return {**found, 'mean_per_class': 100 * torch.stack(by_class).mean().item()}


def _knn(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> dict[str, float | None]:
    possible = [k for k in NEIGHBOURS if k <= len(train)]
    if possible:
        similarity, index = nearest_neighbours(train, test, max(possible))
    found: dict[str, float | None] = {}
    for k in NEIGHBOURS:
        found[f'knn{k}'] = None
        if k in possible:
            predicted = vote(similarity[:, :k], labels[index[:, :k]])
            found[f'knn{k}'] = 100 * (predicted == truth).double().mean().item()
    return found


def _spread(scores: Sequence[Tensor], truth: Tensor) -> dict[str, Any]:
    return spread([accuracies(each, truth, (1,))['top1'] for each in scores])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Summarise the accuracies of several seeds: mean, sample standard deviation (0 of one), their number, and each."""
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return dict(mean=statistics.fmean(values), std=std, seeds=len(values), values=list(values))
