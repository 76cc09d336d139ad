"""Stand-in for CUDA graphs on a CPU: record what a function launches, repeat it without Python."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _Recorder(TorchDispatchMode):
    """Runs operations and keeps them; remembers what tensors from outside held before they were written to."""

    def __init__(self):
        super().__init__()
        self.calls, self.own, self.before = [], {}, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        declared = function._schema.arguments
        given = [*zip(declared, args), *((known, kwargs[known.name]) for known in declared if known.name in kwargs)]
        for argument, value in given:
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes or argument.name in ('running_mean', 'running_var'):  # which batch norm's schema does not tell
                for tensor in _tensors(value):
                    if _place(tensor) not in self.own:
                        self.before.setdefault(_place(tensor), (tensor, tensor.detach().clone()))
        inputs = {_place(tensor) for _, value in given for tensor in _tensors(value)}
        result = function(*args, **kwargs)
        self.calls.append((function, args, kwargs, result))
        for tensor in _tensors(result):
            if _place(tensor) not in inputs:
                self.own[_place(tensor)] = tensor
        return result


def record(function):
    """Capture as a GPU does: nothing from outside changes, and what the function made is gone after each run."""
    with _Recorder() as recorder:
        function()
    for tensor, value in recorder.before.values():
        with torch.inference_mode():
            tensor.copy_(value)
    _spoil(recorder.own)

    @torch.inference_mode()
    def replay():
        for called, args, kwargs, result in recorder.calls:
            for old, new in zip(_tensors(result), _tensors(called(*args, **kwargs)), strict=True):
                if _place(old) != _place(new):
                    old.copy_(new)
        _spoil(recorder.own)

    return replay


@torch.inference_mode()
def _spoil(tensors):
    """Overwrite memory, as other graphs of the pool do."""
    for tensor in tensors.values():
        tensor.fill_(torch.nan if tensor.is_floating_point() else 1)


def _place(tensor):
    return tensor.untyped_storage()._cdata


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (list, tuple)) else []
