"""Memory for the gradients of slices, which are zero outside of them."""

import torch
from torch import Tensor

ALIGNED = 128  # entries to whose multiples gradients begin in a block, so that kernels read whole vectors
BLOCK = 2**20  # entries of a block, unless one gradient has more: a few launches for all, in the caches of a CPU

_Block = tuple[torch.dtype, torch.device, int]
_Place = tuple[_Block, int, tuple[int, ...], tuple[int, ...]]  # block of a gradient, first entry, shape and stride


class GradientBlocks:
    """Blocks of zeros with places for gradients, so that a few operations fill all of them with zeros.

    A block is let go of once all of its places are taken.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[torch.dtype, torch.device], int] = {}  # number of the block that is filled
        self._sizes: dict[_Block, int] = {}
        self._left: dict[_Block, int] = {}  # places that are not taken yet
        self._blocks: dict[_Block, Tensor] = {}
        self._made: set[_Block] = set()
        self._taken: set[tuple[_Block, int]] = set()

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
        self._left[block] = self._left.get(block, 0) + 1
        return block, start, shape, stride

    def zeros(self, place: _Place) -> Tensor:
        """Zeros at a place: in its block, unless that was made before the claim or the place is taken already."""
        key, start, shape, stride = place
        again = (key, start) in self._taken  # by another backward pass of the same graph
        if key not in self._made:
            self._made.add(key)
            self._blocks[key] = torch.zeros(self._sizes[key], dtype=key[0], device=key[1])
        block = self._blocks.get(key)
        if not again:
            self._taken.add((key, start))
            self._left[key] -= 1
            if not self._left[key]:
                self._blocks.pop(key, None)
        if again or block is None or start >= len(block):
            return torch.empty_strided(shape, stride, dtype=key[0], device=key[1]).zero_()
        return block.as_strided(shape, stride, start)
