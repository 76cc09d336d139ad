"""Find values in a checkpoint that no sound training writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_MEAN, _VAR = 'running_mean', 'running_var'  # of batch norm; those of one width have it as suffix


def first_few(items: Sequence[object], count: int = 3) -> str:
    """Join the first items by semicolons, and say how many are left."""
    more = f'; and {len(items) - count} more' if len(items) > count else ''
    return '; '.join(map(str, items[:count])) + more


def find_bad_values(state: Any) -> str | None:
    """Say what is wrong with the tensors of a state dict.

    Weights, biases and batch-norm statistics must be finite floating-point tensors, variances at least 0, and means and
    variances come in pairs of one shape. NaN is wrong in every tensor. Infinity is right in others, such as masks.

    Args:
        state (Any): State dict of any tensors. Each is read once; those on the meta device have no values to read.

    Returns:
        str | None: The first faults with key, and number of values; None if all is well.
    """
    if not isinstance(state, Mapping):
        return f'the state is a {type(state).__name__}, not a dict of tensors'
    faults = [fault for key, value in state.items() if (fault := _fault_of(key, value))]
    return first_few([*faults, *_lone_statistics(state)]) or None


def find_bad_number(value: Tensor) -> str | None:
    """Say whether NaN or infinity is in a tensor, and in how many of its values; None if in none.

    Args:
        value (Tensor): Tensor of any shape and type.
    """
    numbers, low, high = _bounds(value)
    if low > -torch.inf and high < torch.inf:  # false with NaN, which both are then
        return None
    kind, found = ('NaN', numbers.isnan()) if low != low else ('infinity', numbers.isinf())
    return f'{kind} in {int(found.sum())} of {numbers.numel()} values'


def _bounds(value: Tensor) -> tuple[Tensor, float, float]:
    """Real numbers of a tensor with the lowest and the highest, both NaN if one is; zeros if there is none to read."""
    readable = value.layout is torch.strided and not (value.is_quantized or value.is_meta)
    if not (readable and value.numel() and (value.is_floating_point() or value.is_complex())):
        return value, 0, 0
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    elif value.element_size() < 4:  # float8 has no reductions, nor has float16 on a CPU in PyTorch 2.1
        value = value.float()
    low, high = torch.stack(tuple(value.detach().aminmax())).tolist()  # one transfer from a GPU
    return value, low, high


def _fault_of(key: Any, value: Any) -> str | None:
    if not isinstance(key, str):
        return f'the key {key!r} is a {type(key).__name__}, not text'
    name = key.rpartition('.')[2]
    # Learned, or measured. Everything else may be a mask, an index or a state of any type.
    known = name.endswith(('weight', 'bias')) or name.startswith((_MEAN, _VAR))
    if not isinstance(value, Tensor):
        state = known or ('.' in key and name != '_extra_state')  # other keys may be those of a whole checkpoint
        return f'{key} is a {type(value).__name__}, not a tensor' if state else None
    plain = value.layout is torch.strided and not value.is_quantized
    if known and not (plain and value.is_floating_point()):
        return f'{key} is of type {value.dtype} and layout {value.layout}, not a dense floating-point tensor'
    fault = find_bad_number(value)
    if fault and (known or fault.startswith('NaN')):
        return f'{fault} of {key}'
    if name.startswith(_VAR) and _bounds(value)[1] < 0:
        return f'{int((value < 0).sum())} of {value.numel()} values of the variance {key} are negative'
    return None


def _lone_statistics(state: Mapping[str, Any]) -> list[str]:
    """Means without the variances of the same shape, and the other way round: half of them would be initial values."""
    faults = []
    for key, value in state.items():
        part, _, name = key.rpartition('.') if isinstance(key, str) else ('', '', '')
        for one, other in ((_MEAN, _VAR), (_VAR, _MEAN)):
            if name.startswith(one) and isinstance(value, Tensor):
                partner = f'{part}.{other}{name[len(one) :]}'.lstrip('.')
                shape = getattr(state.get(partner), 'shape', None)
                if shape != value.shape:
                    got = 'is missing' if shape is None else f'has shape {tuple(shape)}, not {tuple(value.shape)}'
                    faults.append(f'{partner} {got}, beside {key}')
    return faults
