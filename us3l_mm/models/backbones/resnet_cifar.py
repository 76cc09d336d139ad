"""ResNet for small images at any width."""

from mmpretrain.models import ResNet_CIFAR

from us3l_mm.registry import MODELS

from .base import SlimmableBackboneMixin


@MODELS.register_module()
class SlimmableResNet_CIFAR(SlimmableBackboneMixin, ResNet_CIFAR):
    """mmpretrain's ResNet with a 3 x 3 stem of stride 1 and no max-pooling, with slimmable layers.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        width (float, optional): Fixed width; see :class:`SlimmableBackboneMixin`. Defaults to None.
        **kwargs: As for :class:`mmpretrain.models.ResNet_CIFAR`.
    """
