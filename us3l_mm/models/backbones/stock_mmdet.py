"""Backbones of mmdet that need nothing but slimmable layers to run at any width."""

from mmdet.models import Darknet, HRNet

from us3l_mm.registry import MODELS

from .base import SlimmableBackboneMixin


@MODELS.register_module()
class SlimmableHRNet(SlimmableBackboneMixin, HRNet):
    """mmdet's HRNet (mmpretrain's builds its first blocks without ``conv_cfg``; the keys are the same).

    Args:
        extra (dict): The four stages.
        **kwargs: As for :class:`mmdet.models.HRNet` and :class:`SlimmableBackboneMixin`; pretraining needs
            ``norm_eval=False``.

    Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020.
    """


@MODELS.register_module()
class SlimmableDarknet(SlimmableBackboneMixin, Darknet):
    """mmdet's Darknet-53, YOLOv3's backbone.

    Args:
        **kwargs: As for :class:`mmdet.models.Darknet` and :class:`SlimmableBackboneMixin`; pretraining needs
            ``norm_eval=False``.

    Source: Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018.
    """
