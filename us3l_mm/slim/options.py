"""Checks of options, whose errors name the option, what was got, and what it may be."""

import inspect
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn

import torch
from torch import nn

_LARGEST = torch.finfo(torch.float32).max  # what is larger becomes infinite in tensors


def arguments_of(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, with its defaults, to check what a subclass hands on.

    Raises:
        TypeError: If the constructor cannot take them.
    """
    bound = inspect.signature(kind).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _refuse(name: str, needed: str, value: Any, error: type[Exception] = TypeError) -> NoReturn:
    raise error(f'{name} must be {needed}, got {value!r:.100} of type {type(value).__name__}')


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_number(name: str, value: Any, interval: str = '(-inf, inf)') -> float:
    """Return ``value`` as a float, if it is a finite real number in an interval.

    Args:
        name (str): Option, for the error.
        value (Any): What was given; True and False are no numbers.
        interval (str): Such as ``'(0, 1]'``: square brackets include the end.

    Raises:
        TypeError: If it is no number.
        ValueError: If it lies outside, or float32 cannot hold it.
    """
    if not _is_a(Real, value):
        _refuse(name, f'a number in {interval}', value)
    low, high = map(float, interval[1:-1].split(','))
    inside = low < value < high or (interval[0] == '[' and value == low) or (interval[-1] == ']' and value == high)
    if not inside or abs(value) > _LARGEST:
        _refuse(name, f'in {interval}{" and finite in float32" if inside else ""}', value, ValueError)
    return float(value)


def check_range(name: str, value: Any, interval: str) -> tuple[float, float]:
    """Return ``value`` as a tuple, if it is two numbers in an interval, the lower one first; else raise an error."""
    needed = f'(lowest, highest) in {interval}'
    if not isinstance(value, Sequence) or isinstance(value, str):
        _refuse(name, needed, value)
    limits = tuple(check_number(f'each limit of {name}', limit, interval) for limit in value)
    if len(limits) != 2 or limits[0] > limits[1]:
        _refuse(name, needed, value, ValueError)
    return limits


def check_count(name: str, value: Any, least: int = 1, most: int = 2**63 - 1) -> int:
    """Return ``value`` as an int, if it is a whole number from ``least`` to ``most``; neither True nor 3.0 is one."""
    needed = f'a whole number from {least}{"" if most == 2**63 - 1 else f" to {most}"}' if least < most else f'{least}'
    if not _is_a(Integral, value):
        _refuse(name, needed, value)
    if not least <= value <= most:
        _refuse(name, needed, value, ValueError)
    return int(value)


def check_size(name: str, value: Any, least: int = 1, most: int = 100_000) -> Any:
    """Return ``value``, if it is a count as for :func:`check_count`, or two of them, for height and width."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return check_count(name, value, least, most)
    if len(value) != 2:
        _refuse(name, 'one number, or two for height and width', value, ValueError)
    return tuple(check_count(f'each number of {name}', size, least, most) for size in value)


def check_flag(name: str, value: Any) -> bool:
    """Return ``value``, if it is True or False; the text 'False' and 0 are neither."""
    if not isinstance(value, bool):
        _refuse(name, 'True or False', value)
    return value


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return ``value``, if it is one of ``choices``."""
    if value not in tuple(choices):
        _refuse(name, f'one of {tuple(choices)}', value, ValueError)
    return value


def check_list(name: str, value: Any, kind: type | tuple[type, ...] = object, least: int = 1) -> Any:
    """Return ``value``, if it is a list or tuple of ``least`` or more items of these kinds."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    needed = f'a list of {least} or more items of type {" or ".join(each.__name__ for each in kinds)}'
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, kind) for item in value):
        _refuse(name, needed, value)
    if len(value) < least:
        _refuse(name, needed, value, ValueError)
    return value


def check_dict(name: str, value: Any, *entries: str) -> Any:
    """Return ``value``, if it is a dict that has these entries."""
    needed = f'a dict{" with " if entries else ""}{" and ".join(map(repr, entries))}'
    if not isinstance(value, Mapping):
        _refuse(name, needed, value)
    if any(entry not in value for entry in entries):
        _refuse(name, needed, value, ValueError)
    return value


def check_part(name: str, value: Any, needs_type: bool = True) -> Any:
    """Return ``value``, if it is the config of a part of a model, a dict with a type, or the part itself."""
    if isinstance(value, nn.Module):
        return value
    if not isinstance(value, Mapping) or (needs_type and 'type' not in value):
        _refuse(name, 'a module, or a dict with its type' if needs_type else 'a module or a dict', value)
    return value
