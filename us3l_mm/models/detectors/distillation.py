"""Losses by which a narrow detector imitates the widest one of the same iteration.

Shapes, at one level of the pyramid: N images, C channels, A anchors a position, K classes, B numbers a box,
H x W positions.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor


def feature_distance(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of features, divided by the mean square of the target, averaged over the levels.

    The divisor removes the scale of features, which keeps growing in a pyramid without norm layers; features of
    zeros have distance 1. A narrow neck is compared with the first channels of the wide one.

    Args:
        features (Sequence[Tensor]): At each level of shape (N, c, H, W), c at most C.
        targets (Sequence[Tensor]): At each level of shape (N, C, H, W).

    Returns:
        Tensor: Scalar.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015; for detectors Chen et al., "Learning
    Efficient Object Detection Models with Knowledge Distillation", NeurIPS 2017.
    """
    levels = []
    for x, target in zip(features, targets, strict=True):
        target = target[:, : x.size(1)].float()
        levels.append(F.mse_loss(x.float(), target) / target.square().mean())
    return sum(levels[1:], start=levels[0]) / len(levels)


def class_divergence(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    r"""Kullback-Leibler divergence of sigmoid class outputs, divided by the number of objects that the target expects.

    With :math:`p` the sigmoid of a target and :math:`q` that of an output, summed over everything:

    .. math:: \frac{1}{\sum p} \sum p \log \frac{p}{q} + (1 - p) \log \frac{1 - p}{1 - q}

    The divisor has the role of the number of positive anchors in a focal loss: a mean over all outputs, nearly
    all of them background, would vanish.

    Args:
        logits (Sequence[Tensor]): At each level of shape (N, A * K, H, W).
        targets (Sequence[Tensor]): Logits of the same shapes.

    Returns:
        Tensor: Scalar; its gradient is that of a soft binary cross entropy.

    Source: in-place distillation of Yu and Huang, "Universally Slimmable Networks and Improved Training
    Techniques", ICCV 2019, with sigmoids in place of the softmax.
    """
    divergence: Any = 0.0
    expected: Any = 0.0
    for x, target in zip(logits, targets, strict=True):
        p = target.float().sigmoid()
        divergence = divergence + F.binary_cross_entropy_with_logits(x.float(), p, reduction='sum')
        divergence = divergence - F.binary_cross_entropy_with_logits(target.float(), p, reduction='sum')
        expected = expected + p.sum()
    return divergence / expected


def box_distance(
    boxes: Sequence[Tensor], targets: Sequence[Tensor], target_logits: Sequence[Tensor], num_classes: int
) -> Tensor:
    """Smooth L1 distance of box outputs, weighted by the target's confidence in an object there.

    The sum over the numbers of a box, averaged over boxes with the target's highest class probability as weight:
    box outputs in the background are never trained.

    Args:
        boxes (Sequence[Tensor]): At each level of shape (N, A * B, H, W).
        targets (Sequence[Tensor]): Of the same shapes.
        target_logits (Sequence[Tensor]): Class outputs of the target, at each level of shape (N, A * K, H, W).
        num_classes (int): K.

    Returns:
        Tensor: Scalar.

    Source: Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation", NeurIPS 2017,
    without its bound.
    """
    distance: Any = 0.0
    total: Any = 0.0
    for x, target, logits in zip(boxes, targets, target_logits, strict=True):
        weight = logits.float().sigmoid().unflatten(1, (-1, num_classes)).amax(dim=2)  # (N, A, H, W)
        each = F.smooth_l1_loss(x.float(), target.float(), reduction='none')
        distance = distance + (weight * each.unflatten(1, (weight.size(1), -1)).sum(dim=2)).sum()
        total = total + weight.sum()
    return distance / total
