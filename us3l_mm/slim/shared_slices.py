"""Slices of parameters that all forward passes of a scope share."""

import operator
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from .gradient_blocks import GradientBlocks

_is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)  # PyTorch 2.3


def prefix(whole: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first ``sizes`` entries along the first axes, as a view; ``whole`` itself where nothing is cut off."""
    for axis, (size, full) in enumerate(zip(sizes, whole.shape)):
        if size < full:  # a grouped convolution has fewer inputs than it is given
            whole = whole.narrow(axis, 0, size)
    return whole


def _is_cut(whole: Tensor, sizes: Sequence[int]) -> bool:
    return any(map(operator.lt, sizes, whole.shape))


class SharedSlices:
    """Slices that are made once, and whose gradients lie in the same blocks of memory."""

    def __init__(self) -> None:
        self._slices: dict[Hashable, tuple[Any, ...]] = {}
        self._blocks = GradientBlocks()

    def of(self, owner: Hashable, wholes: Sequence[Any], sizes: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, ...]:
        """Slice the parameters of a layer, at the first call with the same arguments.

        A method of its own, because PyTorch 2.6 compiles anew for each object that is called.

        Args:
            owner (Hashable): The layer.
            wholes (Sequence[Tensor, optional]): Its parameters.
            sizes (tuple[int, ...]): Entries along the first axes; axes that a parameter lacks do not count.
            dtype (torch.dtype): Type of the slices. What is not cut off stays as it is: autocast caches its casts.
        """
        cut = [i for i, whole in enumerate(wholes) if whole is not None and _is_cut(whole, sizes)]
        if not cut:
            return tuple(wholes)
        key = owner, sizes, dtype, torch.is_grad_enabled()
        if key not in self._slices:
            # Without gradients no block is filled; a compiler fuses these by itself, and cannot trace the function.
            if _is_compiling() or not torch.is_grad_enabled():
                self._slices[key] = tuple(prefix(wholes[i], sizes).to(dtype) for i in cut)
            else:
                self._slices[key] = _Slice.apply(self._blocks, sizes, dtype, *[wholes[i] for i in cut])
        parts = list(wholes)  # those that are whole anew, for they may have been replaced
        for i, part in zip(cut, self._slices[key]):
            parts[i] = part
        return tuple(parts)

    def __reduce__(self) -> tuple:
        """Copy and pickle as None: slices are of these very parameters."""
        return type(None), ()


class _Slice(torch.autograd.Function):
    """Slices and casts parameters in one operation each; a copy into zeros undoes both for the gradient."""

    @staticmethod
    def forward(ctx: Any, blocks: GradientBlocks, sizes: tuple[int, ...], dtype: torch.dtype, *wholes: Tensor):
        ctx.set_materialize_grads(False)
        ctx.blocks, ctx.sizes = blocks, sizes
        ctx.places = [blocks.claim(whole) if whole.requires_grad else None for whole in wholes]
        parts = [prefix(whole.detach(), sizes) for whole in wholes]
        # A convolution would copy weights with gaps at each call.
        parts = [p.to(dtype, copy=p.shape[1:] != whole.shape[1:]) for p, whole in zip(parts, wholes)]
        ctx.mark_non_differentiable(*[part for part, place in zip(parts, ctx.places) if place is None])
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):
        if torch.is_grad_enabled():
            raise RuntimeError('slices that are shared have no second derivative: switch_layers(..., share=False)')
        wholes: list[Tensor | None] = []
        parts, given = [], []
        for place, gradient in zip(ctx.places, gradients):
            if gradient is None or place is None:
                wholes.append(None)
                continue
            whole = ctx.blocks.zeros(place)
            wholes.append(whole)
            parts.append(prefix(whole, ctx.sizes))
            given.append(gradient)
        if parts:
            torch._foreach_copy_(parts, given)
        return None, None, None, *wholes
