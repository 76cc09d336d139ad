"""Arguments that several tools share."""

import argparse
import os.path as osp
from collections.abc import Callable

import torch

from .plain_model import PlainModel


def checked(parse: Callable[[str], object]) -> Callable[[str], object]:
    """``parse`` as a type for argparse, which shows the message of its errors."""

    def run(text: str) -> object:
        try:
            return parse(text)
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return run


def image_size(given: list[int] | None, plain: PlainModel) -> tuple[int, int]:
    """Height and width of the images a model is traced or measured with.

    Args:
        given (list[int], optional): One number or two. Defaults to ``img_size`` of the backbone, which is then
            fixed, or else 224.
        plain (PlainModel): The model.

    Raises:
        ValueError: If the numbers make no size, or none is given for a detector.
    """
    if given is None:
        if plain.part == 'detector':
            raise ValueError('the image size of a detector is yours to choose: give --input HEIGHT WIDTH')
        size = getattr(plain.model.backbone, 'img_size', 224)
        return (size, size) if isinstance(size, int) else tuple(size)
    if len(given) > 2 or min(given) < 1:
        raise ValueError(f'--input takes a side, or a height and a width, in pixels, got {given}')
    return given[0], given[-1]


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how costs are counted and latency is measured."""
    add = parser.add_argument
    add('--input', type=int, nargs='+', metavar='PIXELS', help='side, or height and width, of an image')
    add('--batch', type=int, default=1, help='images at a time')
    add('--device', choices=['cpu', 'cuda'], default='cpu', help='where latency is measured')
    add('--threads', type=int, help="torch's threads; all cores if not given")
    add('--warmup', type=int, default=10, help='runs that are not counted')
    add('--repeats', type=int, default=50, help='runs that are')


def check_measuring(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop with a message if the options of :func:`add_measuring` cannot be; set the number of threads."""
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
