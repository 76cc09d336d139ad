"""Command-line options that several tools share."""

import argparse
import os.path as osp
from collections.abc import Callable

import torch

from us3l_mm.slim import check_count, check_number


def checked(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Wrap ``parse`` into a type for argparse that shows the messages of its errors."""

    def run(text: str) -> object:
        try:
            return parse(text)
        except (OSError, TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return run


def _number(text: str, kind: type) -> object:
    """Return the number in ``text``, or the text, which the checks refuse by a better message."""
    try:
        return kind(text)
    except ValueError:
        return text


def count_from(least: int) -> Callable[[str], object]:
    """Make a type for argparse that takes whole numbers from ``least``."""
    return checked(lambda text: check_count('it', _number(text, int), least))


def number_in(interval: str) -> Callable[[str], object]:
    """Make a type for argparse that takes finite numbers in an interval such as ``'(0, 1]'``."""
    return checked(lambda text: check_number('it', _number(text, float), interval))


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the options for counting costs and measuring latency."""
    add = parser.add_argument
    add(
        '--input',
        type=count_from(1),
        nargs='+',
        metavar='PIXELS',
        help='side, or height and width, of an image, such as 224; that of the training if not given',
    )
    add('--batch', type=count_from(1), default=1, help='images in a batch')
    add('--device', choices=['cpu', 'cuda'], default='cpu', help='where latency is measured')
    add('--threads', type=count_from(1), help='threads of torch; all cores if not given')
    add('--warmup', type=count_from(0), default=10, help='runs before the measured ones')
    add('--repeats', type=count_from(1), default=50, help='measured runs')


def check_measuring(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options of :func:`add_measuring`, and set the number of threads."""
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but torch finds no GPU here')
    if not osp.isfile(args.config):
        parser.error(f'no such file: {args.config}')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
