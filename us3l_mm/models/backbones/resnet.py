"""ResNet at any width."""

from mmpretrain.models import ResNet
from torch import nn

from us3l_mm.registry import MODELS

from .base import SlimmableBackboneMixin


@MODELS.register_module()
class SlimmableResNet(SlimmableBackboneMixin, ResNet):
    """mmpretrain's ResNet-18/34/50/101/152 with slimmable layers; also a backbone for mmdet.

    State-dict keys are those of the stock ResNets of mmpretrain, mmdet and torchvision.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        width (float, optional): Fixed width; see :class:`SlimmableBackboneMixin`. Defaults to None.
        **kwargs: As for :class:`mmpretrain.models.ResNet`, ``out_indices``, ``frozen_stages``,
            ``norm_eval`` and ``with_cp`` among them.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    layer4: nn.Module
