"""Functions of tensors that a GPU repeats without Python: CUDA graphs with inputs, outputs and gradients."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

Capture = Callable[[Callable[[], None]], Callable[[], None]]
MOST = 8  # kinds of inputs of a key that are captured, such as sizes of batches


def cuda_graphs() -> Capture:
    """Make a function that captures another one as a CUDA graph and returns what replays it.

    All graphs share one pool of memory. So nothing there outlives a replay: what a function makes is copied out of it.
    """
    pool = torch.cuda.graph_pool_handle()

    def capture(function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode='thread_local'):  # loaders pin memory meanwhile
            function()
        return graph.replay

    return capture


class Captured:
    """Run functions of tensors, each captured once for every key and kind of its inputs: shapes, strides, types.

    The first run of a kind is an ordinary one, which also chooses the algorithms of convolutions; the second is
    captured and replayed. Beyond :data:`MOST` kinds of a key all runs are ordinary ones. A replay repeats the launches
    alone: Python values count as at the capture unless they are in the key or the inputs. It reads the inputs, which
    are copied, and whatever other tensors the function has read, where these have been changed in place.

    Args:
        module (nn.Module, optional): Owner of the parameters whose gradients functions may add to. Defaults to None.
        capture (Callable, optional): Captures a function of no arguments and returns what replays it. Defaults to
            :func:`cuda_graphs`.
    """

    def __init__(self, module: nn.Module | None = None, capture: Capture | None = None) -> None:
        self._module = nn.Module() if module is None else module
        self._parameters: list[nn.Parameter] = []  # that have gradients
        self._places: tuple[dict, dict] = {}, {}  # of parameters and of buffers in memory
        self._gradients: list[Tensor] = []
        self._capture = cuda_graphs() if capture is None else capture
        self._kinds: Counter[Hashable] = Counter()
        self._outputs: dict[Hashable, Any] = {}  # of the first run of each key
        self._replays: dict[Hashable, tuple[Callable[[], None], list[Tensor], list[Tensor], list[int]]] = {}
        self._static: dict[Hashable, Tensor] = {}

    def __call__(self, key: Hashable, function: Callable, *inputs: Any) -> Any:
        """Run ``function(*inputs)``.

        Args:
            key (Hashable): What tells the function from others, and all that its result depends on besides tensors.
            function (Callable): Takes and returns tensors, numbers and None, nested in lists, tuples, dicts and data
                samples, of which it reads no metainfo. It may add to ``.grad`` of the parameters.
            *inputs (Any): Its arguments.

        Returns:
            Any: What it returns, in tensors of the caller's own.

        Raises:
            RuntimeError: If the function cannot be captured.
        """
        self._forget_if_moved()
        leaves: list[Tensor] = []
        modes = (tuple(part.training for part in self._module.modules()), torch.is_grad_enabled(), *_autocast())
        has_gradient = tuple(p.grad is not None for p in self._parameters)
        known, key = (key, modes, has_gradient), (key, modes, has_gradient, _flatten(inputs, leaves))
        if key not in self._outputs:
            outputs = function(*inputs)
            self._kinds[known] += 1
            if self._kinds[known] <= MOST:
                self._outputs[key] = outputs
            elif self._kinds[known] == MOST + 1:
                print_log(
                    f'more than {MOST} kinds of inputs of one pass: further ones run without a CUDA graph, which is '
                    'slower; give batches one size, and data samples no numbers that are not tensors',
                    logger='current',
                    level=logging.WARNING,
                )
            return outputs
        self._adopt_gradients()
        if key not in self._replays:
            self._replays[key] = self._captured(function, inputs, leaves, self._outputs[key])
            self._outputs[key] = _rebuild(self._outputs[key], iter(self._replays[key][2]))
        replay, static, results, used = self._replays[key]
        if static:
            torch._foreach_copy_(static, leaves, non_blocking=True)
        replay()
        for index in used:
            self._parameters[index].grad = self._gradients[index]
        return _rebuild(self._outputs[key], iter([result.clone() for result in results]))

    def __reduce__(self) -> tuple:
        """Copy and pickle as None: graphs belong to these very tensors."""
        return type(None), ()

    def _forget_if_moved(self) -> None:
        """Start anew if parameters are others, frozen or elsewhere in memory, where replays do not find them."""
        parameters = {name: (p.data_ptr(), p.requires_grad) for name, p in self._module.named_parameters()}
        buffers = {name: buffer.data_ptr() for name, buffer in self._module.named_buffers()}
        known, known_buffers = self._places
        if parameters != known or any(buffers.get(name) != place for name, place in known_buffers.items()):
            self._places = parameters, buffers  # more buffers, as statistics of a width, mean nothing
            self._parameters = [p for p in self._module.parameters() if p.requires_grad]
            for each in (self._kinds, self._outputs, self._replays, self._gradients):
                each.clear()

    def _adopt_gradients(self) -> None:
        """Move gradients of ordinary runs to where replays add to them."""
        if not self._gradients:
            self._gradients = [torch.empty_like(p) for p in self._parameters]
        for parameter, own in zip(self._parameters, self._gradients):
            if parameter.grad is not None and parameter.grad is not own:
                own.copy_(parameter.grad)
                parameter.grad = own

    def _captured(self, function: Callable, inputs: Any, leaves: Sequence[Tensor], example: Any) -> tuple:
        """Capture a run; return its replay, its inputs and outputs, and the indices of parameters with a gradient."""
        found: list[Tensor] = []
        _flatten(example, found)
        static, results = self._like('input', leaves), self._like('output', found)
        arguments = _rebuild(inputs, iter(static))
        before = [parameter.grad for parameter in self._parameters]
        used: list[int] = []

        def run() -> None:
            made: list[Tensor] = []
            _flatten(function(*arguments), made)
            used.extend(index for index, p in enumerate(self._parameters) if p.grad is not None)
            for add in (False, True):
                some = [index for index in used if (before[index] is not None) is add]
                ours, new = [self._gradients[i] for i in some], [self._parameters[i].grad for i in some]
                if some:
                    torch._foreach_add_(ours, new) if add else torch._foreach_copy_(ours, new)
            if made:
                torch._foreach_copy_(results, made)
            for parameter in self._parameters:
                parameter.grad = None

        buffers = [id(buffer) for buffer in self._module.buffers()]
        for parameter in self._parameters:
            parameter.grad = None
        try:
            replay = self._capture(run)
        except RuntimeError as error:
            raise RuntimeError(f"cannot capture a CUDA graph ({error}); set speed='eager' in the model") from error
        finally:
            for parameter, gradient in zip(self._parameters, before):
                parameter.grad = gradient
        if buffers != [id(buffer) for buffer in self._module.buffers()]:
            raise RuntimeError(
                f'cannot capture a CUDA graph of {type(self._module).__name__}: its forward pass puts new tensors in '
                "the place of buffers, which a replay would not see; set speed='eager' in the model"
            )
        return replay, static, results, used

    def _like(self, role: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the given shapes outside the pool; calls share them, since each copies in and out."""
        found = []
        for index, tensor in enumerate(tensors):
            key = (role, index, tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
            found.append(self._static.setdefault(key, torch.zeros_like(tensor)))
        return found


def _autocast() -> tuple[bool, torch.dtype]:
    if not hasattr(torch, 'get_autocast_dtype'):  # PyTorch 2.4
        return torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    return torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')


def _flatten(value: Any, leaves: list[Tensor]) -> Hashable:
    """Add the tensors in a nested value to ``leaves``; return what else there is, and their shapes."""
    if isinstance(value, Tensor):
        leaves.append(value)
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, (dict, BaseDataElement)):
        return tuple((key, _flatten(part, leaves)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_flatten(part, leaves) for part in value)
    if not isinstance(value, Hashable):
        raise TypeError(f'CUDA graphs take tensors, numbers and text as inputs, got {value!r:.80}: make it a tensor')
    return value


def _rebuild(value: Any, leaves: Iterator[Tensor]) -> Any:
    """Copy a nested value with other tensors, in the order of :func:`_flatten`."""
    if isinstance(value, Tensor):
        return next(leaves)
    if isinstance(value, BaseDataElement):
        return value.new(**{key: _rebuild(part, leaves) for key, part in value.items()})
    if isinstance(value, dict):
        return {key: _rebuild(part, leaves) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuild(part, leaves) for part in value)
    return value
