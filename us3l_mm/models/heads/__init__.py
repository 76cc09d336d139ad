"""Heads."""

from .slimmable_linear_cls_head import SlimmableLinearClsHead
from .slimmable_res_layer import SlimmableResLayer

__all__ = ['SlimmableLinearClsHead', 'SlimmableResLayer']
