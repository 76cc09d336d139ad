"""The type of a width, its checks and its text forms.

A width is a number in (0, 1], the share of channels that the layers use, or one such number for each of
some parts of the network, by module name: ``{'layer1': 0.5, 'layer4.0.conv1': 0.3}``.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from .options import check_list, check_number

Width = float | Mapping[str, float]


def check_single_width(width: float, name: str = 'width') -> float:
    """Return ``width`` as a float, if it is a width multiplier.

    Raises:
        TypeError: If ``width`` is not a real number.
        ValueError: If ``width`` lies outside (0, 1].
    """
    return float(check_number(name, width, '(0, 1]'))


def check_width(width: Width, name: str = 'width') -> float | dict[str, float]:
    """Return ``width`` in floats, if it is a width of a network or of its parts.

    Raises:
        TypeError: If a value is not a real number.
        ValueError: If a value lies outside (0, 1], or no part is named.
    """
    if not isinstance(width, Mapping):
        return check_single_width(width, name)
    if not width:
        raise ValueError(f'{name}: widths of parts need at least one part, such as layer1=0.5; got none')
    return {part: check_single_width(value, name) for part, value in width.items()}


def check_widths(name: str, widths: Any, check: Callable[[Any, str], Any] = check_single_width) -> tuple:
    """Return ``widths`` as a tuple, if it is a list of at least one width and has none twice.

    Args:
        name (str): Option, for the error.
        widths (Any): What was given.
        check (Callable): Check of each width, :func:`check_width` where widths of parts are fine.

    Raises:
        TypeError: If it is no list, or a width is no number.
        ValueError: If a width lies outside (0, 1], or the list is empty or names a width twice.
    """
    widths = tuple(check(width, f'each width of {name}') for width in check_list(name, widths))
    keys = [width_key(width) for width in widths]
    twice = [width_label(width) for width, key in zip(widths, keys) if keys.count(key) > 1]
    if twice:
        raise ValueError(f'{name} must name no width twice (six digits count), got {", ".join(twice)}')
    return widths


def parse_width(text: str) -> float | dict[str, float]:
    """Read ``'0.5'`` or ``'layer1=0.5,layer4=0.8'``, as ``type`` of an argparse option.

    Raises:
        argparse.ArgumentTypeError: If ``text`` is neither.
    """
    try:
        if '=' not in text:
            return check_single_width(float(text))
        pairs = [part.split('=') for part in text.split(',')]
        return {name.strip(): check_single_width(float(value)) for name, value in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'a width is a number in (0, 1], or one for each of some parts such as layer1=0.5,layer4=0.8; got {text!r} '
            f'({error})'
        ) from error


def parse_single_width(text: str) -> float:
    """Read ``'0.5'``, for options that sort or compare widths.

    Raises:
        argparse.ArgumentTypeError: If ``text`` is no width, or names parts.
    """
    width = parse_width(text)
    if isinstance(width, dict):
        raise argparse.ArgumentTypeError(f'needs one width for all parts, such as 0.5; got {text!r}')
    return width


def width_label(width: Width) -> str:
    """Write a width as :func:`parse_width` reads it: ``0.25``, or ``layer1=0.5,layer4=0.8``."""
    if isinstance(width, Mapping):
        return ','.join(f'{part}={value:.6g}' for part, value in width.items())
    return f'{width:.6g}'


def width_key(width: Width) -> str:
    """Write a width without dots, for names of buffers: ``0_25``, ``layer1=0_5+layer4=0_8``."""
    if isinstance(width, Mapping):
        return '+'.join(f'{part.replace(".", "/")}={width_key(width[part])}' for part in sorted(width))
    return f'{width:.6g}'.replace('.', '_')


def parse_key(key: str) -> float | dict[str, float]:
    """Read the width that :func:`width_key` wrote."""
    if '=' not in key:
        return float(key.replace('_', '.'))
    pairs = (part.rsplit('=', 1) for part in key.split('+'))
    return {name.replace('/', '.'): float(value.replace('_', '.')) for name, value in pairs}
