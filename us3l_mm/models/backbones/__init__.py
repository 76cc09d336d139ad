"""Slimmable backbones; those derived from mmdet's are in :mod:`us3l_mm.models.backbones.stock_mmdet`."""

from .base import SlimmableBackboneMixin
from .mobilenet_v2 import SlimmableMobileNetV2, SlimmableMobileNetV2_CIFAR
from .resnet import SlimmableResNet
from .resnet_cifar import SlimmableResNet_CIFAR
from .stock import (
    SlimmableMobileNetV3,
    SlimmableRegNet,
    SlimmableResNetV1d,
    SlimmableResNeXt,
    SlimmableSEResNet,
)
from .vision_transformer import SlimmableVisionTransformer

__all__ = [
    'SlimmableBackboneMixin',
    'SlimmableMobileNetV2',
    'SlimmableMobileNetV2_CIFAR',
    'SlimmableMobileNetV3',
    'SlimmableRegNet',
    'SlimmableResNeXt',
    'SlimmableResNet',
    'SlimmableResNetV1d',
    'SlimmableResNet_CIFAR',
    'SlimmableSEResNet',
    'SlimmableVisionTransformer',
]
