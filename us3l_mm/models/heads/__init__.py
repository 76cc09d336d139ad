"""Heads."""

from .slimmable_linear_cls_head import SlimmableLinearClsHead

__all__ = ['SlimmableLinearClsHead']
