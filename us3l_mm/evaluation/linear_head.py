"""Multinomial logistic regression on frozen features, solved to convergence.

Shapes: N images, C channels, K classes.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from us3l_mm.slim import check_count, check_number

L2S = tuple(10.0**-power for power in range(7))  # from 1 to 1e-6
_CHUNK = 16384  # images at a time, so that features may be memory-mapped
_TOLERANCE, _ROUGH = 1e-6, 1e-4  # largest entry of the gradient at the end: of heads, and of those to choose by
_PATIENCE = 2  # values of l2 without a better accuracy after which weaker ones are not tried
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
    data = _Data(features, labels, num_classes, standardise)
    return _Objective(data, l2).solve(start, _TOLERANCE)


def choose_l2(
    features: Tensor, labels: Tensor, num_classes: int, l2s: Sequence[float] = L2S, share: float = 0.2, seed: int = 0
) -> float:
    """Choose the regularisation whose head is most accurate on a part of each class, fitted roughly on the others.

    Values are tried from the largest, until two in a row are no better than the best before.

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
    held = held_out(labels, share, seed).cpu()
    best, accuracy, head, worse = max(l2s), -1.0, None, 0
    if not held.any():
        return best
    data = _Data(features, labels, num_classes, standardise=True, index=(~held).nonzero()[:, 0])
    tested, truth = features[held], labels[held].to(features.device)
    for l2 in sorted(l2s, reverse=True):
        head = _Objective(data, l2).solve(head, _ROUGH)
        found = (head.scores(tested).argmax(dim=1) == truth).double().mean().item()
        worse = worse + 1 if found <= accuracy else 0
        if worse == _PATIENCE:
            break
        if not worse:
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


class _Data:
    """Features in chunks, with their moments.

    Attributes:
        mean (Tensor): Mean (C,) of the features; zeros if they are not to be standardised.
        scale (Tensor): Standard deviations (C,), 1 for a channel that does not vary; or ones.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, num_classes: int, standardise: bool, index: Tensor | None = None
    ) -> None:
        self.num_classes = check_count('num_classes', num_classes, least=2)
        self.features, self.labels = features, _checked(features, labels, num_classes)
        self.index = torch.arange(len(labels)) if index is None else index
        self.memory = None
        if len(self.index) * features.size(1) <= _IN_MEMORY:
            self.memory = features[self.index].double()
        self.mean = features.new_zeros(features.size(1), dtype=torch.float64)
        self.scale = torch.ones_like(self.mean)
        if standardise:
            self.mean = sum(x.sum(dim=0) for x, _ in self) / len(self)
            scale = (sum((x - self.mean).square().sum(dim=0) for x, _ in self) / len(self)).sqrt()
            varies = scale > 10 * torch.finfo(features.dtype).eps * self.mean.abs()
            self.scale = torch.where(varies, scale, self.scale)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield chunks of features (n, C) in float64 with their labels (n,)."""
        for number, part in enumerate(self.index.split(_CHUNK)):
            x = self.features[part].double() if self.memory is None else self.memory[number * _CHUNK :][: len(part)]
            yield x, self.labels[part]

    def __len__(self) -> int:
        return len(self.index)


class _Objective:
    """The function to minimise, of a matrix (K, C + 1): weights for standardised features, and the bias."""

    def __init__(self, data: _Data, l2: float) -> None:
        self.data, self.l2 = data, check_number('l2', l2, '(0, inf)')

    @torch.no_grad()
    def solve(self, start: LinearHead | None, tolerance: float) -> LinearHead:
        """Run L-BFGS until no entry of the gradient is above the tolerance, or warn."""
        z = self._variables(start).requires_grad_()
        limits = dict(max_iter=_MAX_ITERS, max_eval=2 * _MAX_ITERS, tolerance_grad=tolerance, tolerance_change=0)
        solver = torch.optim.LBFGS([z], history_size=20, line_search_fn='strong_wolfe', **limits)

        def closure() -> Tensor:
            value, z.grad = self(z.detach())
            return value

        solver.step(closure)
        closure()
        left = z.grad.abs().max().item()
        if left > tolerance:
            text = f'logistic regression with l2={self.l2:g} stopped at a gradient of {left:.1e}, above {tolerance:g}'
            print_log(text, 'current', logging.WARNING)
        return self._head(z.detach())

    def _variables(self, start: LinearHead | None) -> Tensor:
        data = self.data
        if start is None:
            return data.mean.new_zeros(data.num_classes, len(data.mean) + 1)
        return torch.cat([start.weight * data.scale, (start.bias + start.weight @ data.mean)[:, None]], dim=1)

    def _head(self, z: Tensor) -> LinearHead:
        weight = z[:, :-1] / self.data.scale
        return LinearHead(weight, z[:, -1] - weight @ self.data.mean)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the value, and the gradient of shape (K, C + 1)."""
        data, head = self.data, self._head(z)
        value = self.l2 / 2 * z[:, :-1].square().sum()
        slope, total = torch.zeros_like(head.weight), torch.zeros_like(head.bias)  # by weight and bias
        for x, labels in data:
            score = F.linear(x, head.weight, head.bias).log_softmax(dim=1)
            value -= score.gather(1, labels[:, None]).sum() / len(data)
            error = score.exp_().scatter_add_(1, labels[:, None], score.new_full((len(labels), 1), -1.0))  # (n, K)
            slope += error.T @ x
            total += error.sum(dim=0)
        slope = (slope - torch.outer(total, data.mean)) / data.scale / len(data) + self.l2 * z[:, :-1]
        return value, torch.cat([slope, total[:, None] / len(data)], dim=1)


def _checked(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the labels on the device of the features, if both fit."""
    if features.dim() != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(f'features (N, C) need labels (N,), got {tuple(features.shape)} and {tuple(labels.shape)}')
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'labels must be in [0, {num_classes}), as num_classes says, got {labels.min()} to {labels.max()}'
        )
    return labels.to(features.device)
