"""Widths of a command line; :func:`us3l_mm.slim.layers.width_label` writes them."""

import argparse
from collections.abc import Mapping

from us3l_mm.slim import check_width


def check_widths(width: float | Mapping[str, float]) -> float | dict[str, float]:
    """:func:`check_width` of a width, or of that of each part.

    Raises:
        TypeError: If one is not a number.
        ValueError: If one is outside (0, 1], or there is no part.
    """
    if not isinstance(width, Mapping):
        return check_width(width)
    if not width:
        raise ValueError('widths of parts need a part at least, such as layer1=0.5; got none')
    return {part: check_width(value) for part, value in width.items()}


def parse_width(text: str) -> float | dict[str, float]:
    """Width from ``'0.5'``, or widths of parts from ``'layer1=0.5,layer4=0.8'``; the type of ``--width`` for argparse.

    Raises:
        argparse.ArgumentTypeError: If it is neither, with the reason; argparse shows it.
    """
    try:
        if '=' not in text:
            return check_width(float(text))
        pairs = [part.split('=') for part in text.split(',')]
        return {name.strip(): check_width(float(width)) for name, width in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'a width is a number in (0, 1], or one for each of some parts such as layer1=0.5,layer4=0.8; got {text!r} '
            f'({error})'
        ) from error


def parse_single_width(text: str) -> float:
    """Width from ``'0.5'``, where widths are compared or put in order, which those of parts have none of.

    Raises:
        argparse.ArgumentTypeError: If it is no width, or those of parts.
    """
    width = parse_width(text)
    if isinstance(width, dict):
        raise argparse.ArgumentTypeError(f'one width for all parts is wanted here, such as 0.5; got {text!r}')
    return width
