"""Run all benchmarks of a GPU in one process, the most important first, and print one table.

python tools/benchmarks/gpu.py
python tools/benchmarks/gpu.py --minutes 4 --only correctness stages kernels
python tools/benchmarks/gpu.py --train-minutes 5 --data data/cifar100
python tools/benchmarks/gpu.py --tiny --device cpu

Each part gets a share of the time that is left; one that fails or takes longer is reported, and the next goes on. Rows
are printed as they come, and kept in gpu.json and gpu.md, so that nothing is lost where the process is killed.
"""

import argparse
import json
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from us3l_mm.utils.arguments import count_from, number_in
from us3l_mm.utils.files import write_text

ROOT = Path(__file__).parents[2]
# Parts in their order, with the weights by which they share the time that is left.
WEIGHTS = dict(
    correctness=14, stages=45, kernels=3, step=10, layers=6, precision=14, views=8, memory=4, r50=12, loader=14
)
HEADS = ('part', 'what', 'measured', 'bar', 'result')
AGAIN = 20  # seconds after which the alarm rings again, for code that swallowed it


class OutOfTime(BaseException):
    """The time of a part is over; no Exception, so that nothing on the way handles it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after ``seconds``."""

    def stop(*_) -> None:
        raise OutOfTime(f'cut off after {seconds:.1f} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """Rows in the order they come: printed at once, and written as JSON and as a table.

    Attributes:
        part (str): Part that is running.
        found (dict): What later parts need of earlier ones.
    """

    def __init__(self, folder: Path, about: dict) -> None:
        self.folder, self.about = folder, about
        self.part, self.rows, self.found = '', [], {}
        self.save()

    def add(
        self, what: str, measured: str, bar: str = '', met: bool | None = None, result: str = '', **numbers
    ) -> None:
        """Add a row; ``met`` says whether the bar is, ``result`` anything else."""
        result = result or {True: 'met', False: 'missed', None: ''}[met]
        row = dict(part=self.part, what=what, measured=measured, bar=bar, result=result, **numbers)
        self.rows.append(row)
        print(line(row[head] for head in HEADS), flush=True)
        self.save()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Report an error in the block as a row; go on behind it."""
        try:
            yield
        except Exception as error:
            print(traceback.format_exc(), flush=True)
            self.failed(what, error)

    def failed(self, what: str, error: BaseException) -> None:
        """Add a row for an error: where it was raised, and its last line."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f'{Path(frames[-1].filename).name}:{frames[-1].lineno}' if frames else ''
        last = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
        result = 'cut off' if isinstance(error, OutOfTime) else 'failed'
        self.add(what, f'{last[:300]} ({place})', result=result, traceback=traceback.format_exception(error)[-6:])

    def table(self) -> str:
        """All rows as a Markdown table below a line that says of what."""
        head = ', '.join(f'{key} {value}' for key, value in self.about.items())
        rows = [line(row[head] for head in HEADS) for row in self.rows]
        return '\n'.join([head, '', line(HEADS), '|---' * len(HEADS) + '|', *rows]) + '\n'

    def save(self) -> None:
        """Write gpu.json."""
        write_text(self.folder / 'gpu.json', json.dumps(dict(self.about, rows=self.rows), indent=1) + '\n')


def line(cells: object) -> str:
    """A line of a Markdown table."""
    return f'| {" | ".join(str(cell).replace("|", "/") for cell in cells)} |'


def name_of_part(text: str) -> str:
    """Check a name of ``--only``."""
    if text not in WEIGHTS:
        raise argparse.ArgumentTypeError(f'no part is called {text!r}; there are {", ".join(WEIGHTS)}')
    return text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        '--minutes',
        type=number_in('(0, 600]'),
        default=7,
        help='time for all parts, such as 7 (default: %(default)s)',
    )
    add('--only', type=name_of_part, nargs='+', metavar='NAME', help=f'parts to run, such as {" ".join(WEIGHTS)}')
    add(
        '--train-minutes',
        type=number_in('(0, 600]'),
        help='then train the goal config for the epochs that fit, such as 5, and probe 9 widths',
    )
    add(
        '--data',
        type=Path,
        help="CIFAR-100 for it: mmpretrain's folder, or *train*.npz and *test*.npz, as data/cifar100",
    )
    add('--device', choices=['cuda', 'cpu'], default='cuda', help='device (default: %(default)s)')
    add('--tiny', action='store_true', help='the smallest sizes, to try the parts themselves, such as on a CPU')
    add('--threads', type=count_from(1), help='threads of torch on the CPU, such as 1; all cores if not given')
    add('--commit', help='commit to name in the table, such as 6b660c6; that of git if not given')
    add('--out', type=Path, default=Path('work_dirs/gpu'), help='folder for the results (default: %(default)s)')
    add('--work-dir', type=Path, default=Path('work_dirs/gpu_training'), help='of the training (default: %(default)s)')
    args = parser.parse_args()
    if args.train_minutes and not args.tiny and not (args.data and args.data.is_dir()):
        parser.error(f'--train-minutes needs --data FOLDER with CIFAR-100, got {args.data}')
    if args.train_minutes and not args.tiny and args.only and 'stages' not in args.only:
        parser.error('--train-minutes needs the times of the stages: add stages to --only')
    return args


def commit() -> str:
    """Commit of this checkout, where git is installed and knows it."""
    try:
        return subprocess.check_output(
            ['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD'], text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def run_parts(report: Report, setup: object, parts: dict, minutes: float) -> None:
    """Run parts in their order, each within its share of the time that is left."""
    end = time.monotonic() + 60 * minutes
    names = list(parts)
    for number, name in enumerate(names):
        share = WEIGHTS[name] / sum(WEIGHTS[other] for other in names[number:])
        run_part(report, setup, name, parts[name], share * (end - time.monotonic()))


def run_part(report: Report, setup: object, name: str, part: object, seconds: float) -> None:
    """Run a part for some seconds at most; report its failure, or that it was cut off."""
    report.part, start = name, time.monotonic()
    if seconds <= 0:
        report.add('the part itself', 'no time was left', result='cut off')
        return
    print(f'\n## {name}, {seconds:.0f} s at most', flush=True)
    try:
        setup.reset()
        with time_limit(seconds):
            part(report, setup)
    except (Exception, OutOfTime, SystemExit) as error:  # SystemExit: from another benchmark's main
        print(traceback.format_exc(), flush=True)
        report.failed('the part itself', error)
    write_text(report.folder / 'gpu.md', report.table())
    print(f'{name} took {time.monotonic() - start:.1f} s', flush=True)


def main() -> None:
    args = parse_args()
    import gpu_parts  # here: --help need not wait for them
    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('--device cuda, but torch finds no GPU here; to try the parts: --tiny --device cpu')
    if args.threads:
        torch.set_num_threads(args.threads)
    about = dict(
        device=torch.cuda.get_device_name() if args.device == 'cuda' else f'cpu, {torch.get_num_threads()} thread(s)',
        torch=torch.__version__,
        commit=args.commit or commit(),
        date=str(date.today()),
    )
    if args.tiny:
        about['sizes'] = 'tiny, numbers mean nothing'
    report, setup = Report(args.out, about), gpu_parts.Setup(args.device, args.tiny)
    parts = {name: getattr(gpu_parts, name) for name in WEIGHTS if not args.only or name in args.only}
    run_parts(report, setup, parts, args.minutes)
    if args.train_minutes:
        from gpu_training import train

        run_part(report, setup, 'train', lambda *_: train(report, setup, args), 60 * (2 * args.train_minutes + 5))
    print(f'\n{report.table()}\nwritten to {args.out}/gpu.json and gpu.md', flush=True)


if __name__ == '__main__':
    main()
