"""Command-line options that several tools share."""

import argparse
import os.path as osp
from collections.abc import Callable

import torch


def checked(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Wrap ``parse`` into a type for argparse that shows the messages of its errors."""

    def run(text: str) -> object:
        try:
            return parse(text)
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return run


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the options for counting costs and measuring latency."""
    add = parser.add_argument
    add('--input', type=int, nargs='+', metavar='PIXELS', help='side, or height and width, of an image')
    add('--batch', type=int, default=1, help='images in a batch')
    add('--device', choices=['cpu', 'cuda'], default='cpu', help='where latency is measured')
    add('--threads', type=int, help='threads of torch; all cores if not given')
    add('--warmup', type=int, default=10, help='runs before the measured ones')
    add('--repeats', type=int, default=50, help='measured runs')


def check_measuring(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options of :func:`add_measuring`, and set the number of threads."""
    for name, least in (('batch', 1), ('threads', 1), ('warmup', 0), ('repeats', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name} must be at least {least}, got {value}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but torch finds no GPU here')
    if not osp.isfile(args.config):
        parser.error(f'no such file: {args.config}')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
