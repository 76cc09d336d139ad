"""Widths of a command line; :func:`us3l_mm.slim.layers.width_label` writes them."""

import argparse

from us3l_mm.slim import check_width


def parse_width(text: str) -> float | dict[str, float]:
    """Width from ``'0.5'``, or widths of parts from ``'layer1=0.5,layer4=0.8'``.

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
