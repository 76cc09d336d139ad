"""Replay the launches of a function as a CUDA graph, where Python would take longer than the GPU."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Sequence[Tensor]]
Graph = Callable[[Callable[[], Sequence[Tensor]]], tuple[Sequence[Tensor], Callable[[], None]]]
MOST = 8  # kinds of inputs that are captured: each holds the memory of a whole run


def cuda_graph(run: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
    """Capture what ``run`` launches.

    Returns:
        tuple[Sequence[Tensor], Callable]: The results, without values yet, and a function that computes them.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads, as the one that pins batches, may go on.
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):
        results = run()
    return results, graph.replay


class Captured:
    """A function of CUDA tensors, captured once for each kind of inputs (shapes, strides, types).

    The first call runs it, which also loads kernels; the second one captures it; further ones replay. Results are
    copies that later calls leave alone. Copies and pickles of this object capture for themselves.

    Args:
        function (Callable): Takes tensors and returns tensors. Its launches depend on the kind of inputs alone; it
            reads no value and draws nothing on the device. Other tensors that it uses must keep their memory.
        graph (Callable): Captures a run, as :func:`cuda_graph`.
    """

    def __init__(self, function: Function, graph: Graph = cuda_graph) -> None:
        self.function = function
        self.graph = graph
        self._kinds: dict[tuple, Any] = {}

    def __reduce__(self) -> tuple:
        return Captured, (self.function, self.graph)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the results of the function."""
        kind = tuple((tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in tensors)
        if kind not in self._kinds:
            if len(self._kinds) < MOST:
                self._kinds[kind] = None
            return tuple(self.function(*tensors))
        if self._kinds[kind] is None:
            inputs = [tensor.clone() for tensor in tensors]
            self._kinds[kind] = inputs, *self.graph(lambda: self.function(*inputs))
        inputs, results, replay = self._kinds[kind]
        for static, tensor in zip(inputs, tensors):
            static.copy_(tensor, non_blocking=True)
        replay()
        return tuple(result.clone() for result in results)
