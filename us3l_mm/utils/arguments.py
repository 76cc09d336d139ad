"""Command-line options that several tools share."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence

import torch
from mmengine.config import DictAction

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


def command_line() -> str:
    """Write the command that runs here: ``us3l TOOL ...`` or ``python SCRIPT ...``."""
    program, *arguments = sys.argv
    return ' '.join(
        [program if program.startswith('us3l ') else f'python {shlex.quote(program)}', shlex.join(arguments)]
    )


def run_main(main: Callable[[], None]) -> None:
    """Run a tool, which a config, checkpoint or data set that is not there ends by the message alone.

    Raises:
        SystemExit: With the message of a FileNotFoundError that says what to do.
    """
    try:
        main()
    except FileNotFoundError as error:
        if error.errno is not None or '\n' in str(error):  # the system's, here or in a worker of a data loader
            raise
        raise SystemExit(f'error: {error}') from None


class CfgOptions(DictAction):
    """mmengine's action for ``--cfg-options``, which refuses text with spaces, where mmengine's drops them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Parse the values; see :class:`mmengine.config.DictAction`."""
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals:
                parser.error(f'{option_string} takes key=value pairs, got {pair!r}')
            if re.search(r'[^\s,()\[\]]\s+[^\s,()\[\]]', value):
                parser.error(
                    f'{option_string} {key}={value!r} has spaces, which would be dropped; set it in a config of your '
                    'own, or by an option of its own, such as --data-root'
                )
        super().__call__(parser, namespace, values, option_string)


def add_own_data(parser: argparse.ArgumentParser) -> None:
    """Add the options for training on data of one's own; :func:`own_data` collects them."""
    add = add_own_images(parser)
    add('--epochs', type=count_from(1), help='length of the training, with which its schedules are scaled, as 100')
    add('--batch-size', type=count_from(1), help='images of a batch on each device; the learning rate follows, as 64')


def add_own_images(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Add those that say which images; :func:`own_data` collects them. Return what adds more to their group."""
    add = parser.add_argument_group('data of your own; what follows from it is derived and logged').add_argument
    add('--data-root', metavar='FOLDER', help='folder of your images, labelled folders or detection set, as data/mine')
    add(
        '--image-size',
        type=count_from(8),
        metavar='PIXELS',
        help='side of the images that the model gets, or the short side for a detector, as 64',
    )
    add(
        '--val-fraction',
        type=number_in('(0, 1)'),
        help='share of each class to test on, where FOLDER has the folders of classes alone, as 0.2',
    )
    return add


def own_data(args: argparse.Namespace) -> dict[str, object]:
    """Collect the options of the two above, by the names of :class:`us3l_mm.config.OwnData`."""
    names = ('data_root', 'image_size', 'epochs', 'batch_size', 'val_fraction')
    return {name: getattr(args, name, None) for name in names}


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
    if args.threads is not None:
        torch.set_num_threads(args.threads)
