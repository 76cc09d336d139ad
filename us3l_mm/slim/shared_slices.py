"""Slices of parameters that all forward passes of a scope share."""

import operator
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

_is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)  # PyTorch 2.3
ALIGNED = 128  # entries to whose multiples gradients begin in a block, so that kernels read whole vectors
BLOCK = 2**20  # entries of a block, unless one gradient has more: a few launches for all, in the caches of a CPU


def prefix(whole: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first ``sizes`` entries along the first axes, as a view; ``whole`` itself where nothing is cut off."""
    for axis, (size, full) in enumerate(zip(sizes, whole.shape)):
        if size < full:  # a grouped convolution has fewer inputs than it is given
            whole = whole.narrow(axis, 0, size)
    return whole


def _is_cut(whole: Tensor, sizes: Sequence[int]) -> bool:
    return any(map(operator.lt, sizes, whole.shape))


_Block = tuple[torch.dtype, torch.device, int]
_Place = tuple[_Block, int, tuple[int, ...], tuple[int, ...]]  # of a gradient: first entry in its block, shape, stride


class SharedSlices:
    """Slices that are made once, and whose gradients, zero outside of the slice, lie in blocks of memory.

    So a few operations fill all of them with zeros, and each gradient is one copy into its place, which also undoes a
    cast.
    """

    def __init__(self) -> None:
        self._slices: dict[Hashable, tuple[Any, ...]] = {}
        self._counts: dict[tuple[torch.dtype, torch.device], int] = {}  # number of the block that is filled
        self._sizes: dict[_Block, int] = {}
        self._blocks: dict[_Block, Tensor] = {}
        self._taken: set[tuple[_Block, int]] = set()

    def __call__(
        self, owner: Hashable, wholes: Sequence[Any], sizes: tuple[int, ...], dtype: torch.dtype
    ) -> tuple[Any, ...]:
        """Slice the parameters of a layer, at the first call with the same arguments.

        Args:
            owner (Hashable): The layer.
            wholes (Sequence[Tensor, optional]): Its parameters.
            sizes (tuple[int, ...]): Entries along the first axes; axes that a parameter lacks do not count.
            dtype (torch.dtype): Type of the slices. What is not cut off stays as it is: autocast caches its casts.
        """
        key = owner, sizes, dtype, torch.is_grad_enabled()
        if key not in self._slices:
            parts = list(wholes)
            cut = [i for i, whole in enumerate(wholes) if whole is not None and _is_cut(whole, sizes)]
            if _is_compiling():  # the compiler fuses these by itself, and cannot trace the function
                made = tuple(prefix(wholes[i], sizes).to(dtype) for i in cut)
            else:
                made = _Slice.apply(self, sizes, dtype, *[wholes[i] for i in cut]) if cut else ()
            for i, part in zip(cut, made):
                parts[i] = part
            self._slices[key] = tuple(parts)
        return self._slices[key]

    def claim(self, whole: Tensor) -> _Place:
        """Find a place for the gradient of a parameter."""
        shape, stride = whole.shape, whole.stride()
        last = sum([(size - 1) * step for size, step in zip(shape, stride)])
        size = (last // ALIGNED + 1) * ALIGNED
        kind = whole.dtype, whole.device
        number = self._counts.get(kind, 0)
        start = self._sizes.get((*kind, number), 0)
        if start and start + size > BLOCK:
            self._counts[kind] = number = number + 1
            start = 0
        block = (*kind, number)
        self._sizes[block] = start + size
        return block, start, shape, stride

    def zeros(self, place: _Place) -> Tensor:
        """Zeros at a place: in its block, unless that was made before the claim or the place is taken already."""
        key, start, shape, stride = place
        if key not in self._blocks:
            self._blocks[key] = torch.zeros(self._sizes[key], dtype=key[0], device=key[1])
        block = self._blocks[key]
        if (key, start) in self._taken or start >= len(block):  # another backward pass, or a repeated forward pass
            return torch.empty_strided(shape, stride, dtype=key[0], device=key[1]).zero_()
        self._taken.add((key, start))
        return block.as_strided(shape, stride, start)


class _Slice(torch.autograd.Function):
    """Slices and casts parameters in one operation each; so does its gradient."""

    @staticmethod
    def forward(ctx: Any, slices: SharedSlices, sizes: tuple[int, ...], dtype: torch.dtype, *wholes: Tensor):
        ctx.set_materialize_grads(False)
        ctx.slices, ctx.sizes, ctx.places = slices, sizes, [slices.claim(whole) for whole in wholes]
        parts = [prefix(whole.detach(), sizes) for whole in wholes]
        # A convolution would copy weights with gaps at each call.
        return tuple([p.to(dtype, copy=p.shape[1:] != whole.shape[1:]) for p, whole in zip(parts, wholes)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):
        if torch.is_grad_enabled():
            raise RuntimeError('slices that are shared have no second derivative: switch_layers(..., share=False)')
        wholes: list[Tensor | None] = []
        parts, given = [], []
        for place, gradient, wanted in zip(ctx.places, gradients, ctx.needs_input_grad[3:]):
            if gradient is None or not wanted:
                wholes.append(None)
                continue
            whole = ctx.slices.zeros(place)
            wholes.append(whole)
            parts.append(prefix(whole, ctx.sizes))
            given.append(gradient)
        if parts:
            torch._foreach_copy_(parts, given)
        return None, None, None, *wholes
