"""Where in an image the evidence for a class lies."""

import torch
from torch import Tensor


def class_activation(maps: Tensor, weight: Tensor) -> Tensor:
    """Apply a head on average-pooled features at each position of feature maps.

    The mean over the positions, plus the bias of the head, is the logit of the class.

    Args:
        maps (Tensor): Feature maps of N images, (N, C, H, W).
        weight (Tensor): Weight of the head for K classes, (K, C).

    Returns:
        Tensor: Activations of shape (N, K, H, W).

    Raises:
        ValueError: If the maps are none, as those of a vision transformer.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
    """
    if maps.dim() != 4:
        raise ValueError(
            f'class activation maps (cam) need feature maps (N, C, H, W), got shape {tuple(maps.shape)}; a vision '
            'transformer has none'
        )
    return torch.einsum('kc,nchw->nkhw', weight, maps.to(weight))
