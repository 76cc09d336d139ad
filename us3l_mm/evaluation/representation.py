"""How good a representation is, judged without labels.

Shapes: N images, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of the L2-normalised features of two views: 0 if they agree, about 2 if they are unrelated.

    Args:
        first (Tensor): Features of one view, (N, C).
        second (Tensor): Those of the other, (N, C).

    Source: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere", ICML 2020, with alpha = 2.
    """
    return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(dim=1).mean()


def uniformity(features: Tensor) -> Tensor:
    r"""Logarithm of the mean of :math:`\exp(-2 \lVert x - y \rVert^2)` over pairs of L2-normalised features.

    0 if all are alike; about -4 if they lie evenly on a sphere of many dimensions.

    Args:
        features (Tensor): Features of shape (N, C), N > 1.

    Source: Wang and Isola, ICML 2020, with t = 2.
    """
    return F.pdist(F.normalize(features, dim=1)).square().mul(-2).exp().mean().log()


def effective_rank(features: Tensor) -> Tensor:
    r"""RankMe: the exponential of the entropy of the singular values, between 1 and min(N, C).

    .. math:: \exp(-\sum_k p_k \log p_k), \quad p_k = \sigma_k / \lVert \sigma \rVert_1 + 10^{-7}

    Args:
        features (Tensor): Features of shape (N, C).

    Source: Garrido et al., "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations
    by Their Rank", ICML 2023.
    """
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + 1e-7
    return (-share * share.log()).sum().exp()
