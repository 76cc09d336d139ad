"""Multinomial logistic regression on frozen features, solved to convergence.

Shapes: N images, C channels, K classes.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from us3l_mm.slim import check_count, check_number

L2S = tuple(10.0**-power for power in range(7))  # from 1 to 1e-6
_CHUNK = 16384  # images at a time, so that features may be memory-mapped
_TOLERANCE = 1e-7  # largest entry of the gradient at the end
_MAX_ITERS = 5000
_IN_MEMORY = 2**28  # numbers up to which all features are kept in float64: 2 GiB


@dataclass(frozen=True)
class LinearHead:
    """Weights of a linear classifier in float64.

    Attributes:
        weight (Tensor): Shape (K, C).
        bias (Tensor): Shape (K,).
    """

    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def scores(self, features: Tensor) -> Tensor:
        """Compute logits of shape (N, K) in float64 for features of shape (N, C)."""
        parts = [F.linear(part.to(self.weight), self.weight, self.bias) for part in features.split(_CHUNK)]
        return torch.cat(parts)


def fit_linear_head(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    l2: float,
    standardise: bool = True,
    start: LinearHead | None = None,
) -> LinearHead:
    r"""Fit a linear classifier by L-BFGS in float64, on the device of the features; the same input gives the same head.

    .. math:: \min_{W, b} \frac{1}{N} \sum_i \mathrm{CE}(W \hat x_i + b, y_i) + \frac{\lambda}{2} \lVert W \rVert^2

    This is scikit-learn's ``LogisticRegression(C=1 / (N * l2))``.

    Args:
        features (Tensor): Features :math:`x` of shape (N, C); read in chunks, so that they may be memory-mapped.
        labels (Tensor): Labels of shape (N,), from 0 to K - 1.
        num_classes (int): K.
        l2 (float): :math:`\lambda`, above 0.
        standardise (bool): Whether :math:`\hat x` is :math:`x` with mean 0 and standard deviation 1 of each channel
            over the N images, as scikit-learn's ``StandardScaler`` makes it. The head reads :math:`x` all the same:
            the scales are put into its weights. Defaults to True.
        start (LinearHead, optional): Head of another ``l2`` to start from. Defaults to None: zeros.

    Returns:
        LinearHead: The head, for features that are not standardised.

    Raises:
        ValueError: If ``l2`` or ``num_classes`` is out of range, or features and labels do not fit.
    """
    check_number('l2', l2, '(0, inf)')
    labels = _checked(features, labels, check_count('num_classes', num_classes, least=2))
    objective = _Objective(features, labels, num_classes, l2, standardise)
    return objective.head(_minimise(objective, objective.parameters(start)))


def choose_l2(
    features: Tensor, labels: Tensor, num_classes: int, l2s: Sequence[float] = L2S, share: float = 0.2, seed: int = 0
) -> float:
    """Choose the regularisation whose head is most accurate on a part of each class, fitted on the others.

    Args:
        features (Tensor): Features of shape (N, C).
        labels (Tensor): Labels of shape (N,), from 0 to K - 1.
        num_classes (int): K.
        l2s (Sequence[float]): Values to choose from. Of several that are best, the largest is chosen. Defaults to
            powers of ten from 1 to 1e-6.
        share (float): Part of each class to validate on, rounded, but at most all images but one; so a class of one
            image is for fitting alone. Defaults to 0.2.
        seed (int): Seed of the draw. Defaults to 0.

    Returns:
        float: One of ``l2s``; the largest if no class has two images.

    Raises:
        ValueError: As for :func:`fit_linear_head`.
    """
    labels = _checked(features, labels, num_classes)
    held = held_out(labels, share, seed)
    best, accuracy, head = max(l2s), -1.0, None
    for l2 in sorted(l2s, reverse=True) if held.any() else ():
        head = fit_linear_head(features[~held], labels[~held], num_classes, l2, start=head)
        found = (head.scores(features[held]).argmax(dim=1) == labels[held]).double().mean().item()
        if found > accuracy:
            best, accuracy = l2, found
    return best


def held_out(labels: Tensor, share: float, seed: int) -> Tensor:
    """Draw a share of each class to validate on; see :func:`choose_l2`.

    Returns:
        Tensor: Flags of shape (N,).
    """
    check_number('share', share, '(0, 1)')
    generator = torch.Generator().manual_seed(check_count('seed', seed, least=0))
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        places = (labels == label).nonzero()[:, 0].cpu()
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        held[places[torch.randperm(len(places), generator=generator)[:count]]] = True
    return held.to(labels.device)


class _Objective:
    """The function to minimise, of a matrix (K, C + 1): weights for standardised features, and the bias."""

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int, l2: float, standardise: bool) -> None:
        self.num_classes, self.l2, self.count = num_classes, l2, len(features)
        self.mean, self.scale = features.new_zeros(features.size(1)).double(), 1.0
        if standardise:
            self.mean, self.scale = _moments(features)
        rows = features.double() if features.numel() <= _IN_MEMORY else features
        self.batches = list(zip(rows.split(_CHUNK), labels.split(_CHUNK)))

    def parameters(self, start: LinearHead | None) -> Tensor:
        if start is None:
            return self.mean.new_zeros(self.num_classes, len(self.mean) + 1)
        return torch.cat([start.weight * self.scale, (start.bias + start.weight @ self.mean)[:, None]], dim=1)

    def head(self, parameters: Tensor) -> LinearHead:
        weight = parameters[:, :-1] / self.scale
        return LinearHead(weight, parameters[:, -1] - weight @ self.mean)

    def __call__(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the value, and the gradient of shape (K, C + 1)."""
        head, gradient = self.head(parameters), parameters.clone() * self.l2
        gradient[:, -1] = 0  # the bias is not regularised
        value = self.l2 / 2 * parameters[:, :-1].square().sum()
        for x, target in self.batches:
            x = x.to(self.mean)
            logits = F.linear(x, head.weight, head.bias)
            value = value + F.cross_entropy(logits, target, reduction='sum') / self.count
            error = (logits.softmax(dim=1) - F.one_hot(target, self.num_classes)) / self.count  # by the logits
            total = error.sum(dim=0)
            gradient[:, :-1] += (error.T @ x - torch.outer(total, self.mean)) / self.scale
            gradient[:, -1] += total
        return value, gradient


@torch.no_grad()
def _minimise(objective: _Objective, parameters: Tensor) -> Tensor:
    """Run L-BFGS until no entry of the gradient is above the tolerance, or warn."""
    options = dict(lr=1, max_iter=_MAX_ITERS, max_eval=2 * _MAX_ITERS, history_size=20, line_search_fn='strong_wolfe')
    parameters = parameters.clone().requires_grad_()
    solver = torch.optim.LBFGS([parameters], tolerance_grad=_TOLERANCE, tolerance_change=0, **options)

    def closure() -> Tensor:
        value, parameters.grad = objective(parameters.detach())
        return value

    solver.step(closure)
    closure()
    left = parameters.grad.abs().max().item()
    if left > _TOLERANCE:
        print_log(
            f'logistic regression with l2={objective.l2:g} stopped at a gradient of {left:.1e}, above {_TOLERANCE:g}',
            'current',
            logging.WARNING,
        )
    return parameters.detach()


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel in float64; 1 for a channel that does not vary."""
    parts = features.split(_CHUNK)
    mean = sum(part.double().sum(dim=0) for part in parts) / len(features)
    variance = sum((part.double() - mean).square().sum(dim=0) for part in parts) / len(features)
    flat = variance <= (10 * torch.finfo(features.dtype).eps * mean).square()
    return mean, variance.sqrt().masked_fill(flat, 1.0)


def _checked(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the labels on the device of the features, if both fit."""
    if features.dim() != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(f'features (N, C) need labels (N,), got {tuple(features.shape)} and {tuple(labels.shape)}')
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'labels must be in [0, {num_classes}), as num_classes says, got {labels.min()} to {labels.max()}'
        )
    return labels.to(features.device)
