"""Slimmable backbones."""

from .base import SlimmableBackboneMixin
from .resnet import SlimmableResNet
from .resnet_cifar import SlimmableResNet_CIFAR

__all__ = ['SlimmableBackboneMixin', 'SlimmableResNet', 'SlimmableResNet_CIFAR']
