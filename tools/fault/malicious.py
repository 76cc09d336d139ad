"""Try to run code by files: each hostile checkpoint by each way in which a checkpoint is read, and hostile data files.

python tools/fault/malicious.py             # all; --sample takes a fixed part, in under a minute
python tools/fault/malicious.py --only INST # payloads or ways with this in their name

A payload would make a file, a marker. First each is shown to make it where it is loaded unsafely. Then it is given to
each way in, in a process of its own: it may be refused by an error that names the file, or, if it is text that mmengine
would run, be loaded without being run. The exit status is 1 if a marker is found or an error is unclear.
"""

import argparse
import itertools
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.utils import ProgressBar

from us3l_mm.utils.tables import markdown_table

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from common import lighten
from hostile_files import CHECKPOINTS, PICKLES, TEXTS, YAML, load_unsafely, write_file
from ways_in import DATA_WAYS, WAYS, YAML_WAYS, prepare

CLEAR = (
    'refused and nothing in it was executed|cannot load checkpoint|is damaged|is a pickle|not determine a constructor'
)
OUTCOMES = ('executed', 'refused', 'harmless', 'unclear')
TIMEOUT = 120  # seconds a case


def in_child(function: Callable, *args: object) -> object:
    """Call a function in a forked process, so that cases don't see each other; None if the process died."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=lambda: send.send(function(*args)))
    process.start()
    send.close()
    try:
        return receive.recv() if receive.poll(TIMEOUT) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def quietly(folder: Path, function: Callable, *args: object) -> str | None:
    """Call a function in a process of its own, its output into a file, and return its error as text."""
    os.chdir(folder)
    log = os.open(folder / 'log.txt', os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        function(*args)
    except SystemExit as error:
        return f'SystemExit: {error}' if error.code else None
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return None


def check_control(folder: Path, name: str, good: Path) -> bool:
    """Whether a payload runs where it is loaded unsafely."""
    path = folder / 'control'
    marker = write_file(name, path, good)
    quietly(folder, load_unsafely, name, path)
    return marker.exists()


def try_one(folder: Path, configs: Path, name: str, good: str | None, suffix: str, way: Callable) -> tuple[str, str]:
    """Outcome of a payload by one way in, and the error."""
    path = folder / f'hostile{suffix}'
    marker = write_file(name, path, good and configs / f'{good}.pth')
    error = quietly(folder, way, path, configs)
    if marker.exists():
        return 'executed', error or ''
    if error is None:
        return 'harmless', ''
    names_file = str(path) in error or str(path.parent / 'work' / 'epoch_1.pth') in error
    return 'refused' if names_file and re.search(CLEAR, error) else 'unclear', error


def all_cases() -> list[tuple[str, str, str | None, str, Callable]]:
    """Way in, payload, good checkpoint, suffix and function of each case."""
    cases = [(way, name, good, '.pth', run) for way, (good, run) in WAYS.items() for name in CHECKPOINTS]
    cases += [(way, name, None, '.pkl', run) for way, run in DATA_WAYS.items() for name in PICKLES]
    return cases + [(way, name, None, '.yaml', run) for way, run in YAML_WAYS.items() for name in YAML]


def sample(cases: list[tuple]) -> list[tuple]:
    """Every 12th case, so that ways and payloads meet in turn, and one text by each way."""
    texts = list(zip(WAYS, itertools.cycle(TEXTS)))
    chosen = [case for case in cases if case[1] not in TEXTS][::12]
    return chosen + [case for case in cases if case[:2] in texts]


def report(results: list[tuple[str, str, str, str]], controls: dict[str, bool]) -> bool:
    """Print the table and what went wrong, and return whether all is well."""
    rows = []
    for way in dict.fromkeys(way for way, *_ in results):
        count = Counter(outcome for found, _, outcome, _ in results if found == way)
        rows.append([way, sum(count.values()), *(count[outcome] for outcome in OUTCOMES)])
    total = ['all', *(sum(row[column] for row in rows) for column in range(1, len(OUTCOMES) + 2))]
    header = ['way in', 'tried', 'executed', 'refused clearly', 'loaded, nothing executed', 'unclear error']
    print(markdown_table(header, [*rows, total]))
    print(f'\ncontrol: {sum(controls.values())} of {len(controls)} payloads run where they are loaded unsafely')
    for name in [name for name, ran in controls.items() if not ran]:
        print(f'proves nothing, does not run: {name}')
    bad = [result for result in results if result[2] in ('executed', 'unclear')]
    for way, name, outcome, error in bad:
        print(f'{outcome}: {name} by {way}: {error[:300]}')
    return not bad and all(controls.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sample', action='store_true', help='a fixed part of the cases, in under a minute')
    parser.add_argument('--only', default='', help='only payloads and ways with this in their name')
    args = parser.parse_args()
    # All that the cases import, once, before they are forked.
    import mmdet.apis  # noqa: F401
    import mmpretrain.datasets  # noqa: F401

    import us3l_mm.deploy.export
    import us3l_mm.engine
    import us3l_mm.evaluation.detector_widths
    import us3l_mm.visualization.cost_report  # noqa: F401

    lighten()
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='malicious-') as temporary:
        work = Path(temporary)
        configs = work / 'configs'
        configs.mkdir()
        error = in_child(quietly, configs, prepare, configs)
        if error is not None or not (configs / 'us3l_calibrated.pth').exists():
            raise SystemExit(f'cannot train what the payloads are put into: {error}')
        cases = [case for case in all_cases() if args.only in case[0] or args.only in case[1]]
        cases = sample(cases) if args.sample else cases
        controls = {}
        for number, name in enumerate(dict.fromkeys(case[1] for case in cases)):
            controls[name] = in_child(check_control, work / f'control-{number}', name, configs / 'us3l.pth')
        bar, results = ProgressBar(len(cases), file=sys.stderr), []
        for number, (way, name, good, suffix, run) in enumerate(cases):
            found = in_child(try_one, work / str(number), configs, name, good, suffix, run)
            results.append((way, name, *(found or ('unclear', 'the process died or did not end'))))
            shutil.rmtree(work / str(number))
            bar.update()
        print(file=sys.stderr)
        well = report(results, controls)
    print(f'{len(cases)} cases in {time.monotonic() - start:.0f} s, torch {torch.__version__}')
    sys.exit(not well)


if __name__ == '__main__':
    main()
