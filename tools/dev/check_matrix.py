#!/usr/bin/env python3
"""Try us3l_mm with other versions of Python and of the packages below it, and write docs/compatibility.md.

tools/dev/check_matrix.py [CELL ...] [--folder FOLDER] [--keep]
tools/dev/check_matrix.py --page

A cell, such as py312-pinned, is installed in FOLDER/CELL, tried and removed: up to 7 GB and 15 minutes on 2 cores. What
the page says of other cells stays. An environment that is there already is used as it is.

PIP_CACHE_DIR is where pip keeps its downloads for the next cell. STACK, as of check_wheel.sh, is a folder of packages
that fit the cell and are not installed anew; several stand on lines of their own.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECORD = ROOT / 'docs/compatibility.md', ROOT / 'docs/compatibility.json'
PACKAGES = ('torch', 'torchvision', 'numpy', 'opencv-python', 'opencv-python-headless', 'transformers')
PACKAGES += tuple(f'{fork}{name}' for name in ('mmengine', 'mmcv', 'mmpretrain') for fork in ('', 'onedl-'))
PACKAGES += ('mmcv-lite', 'mmdet', 'onedl-mmdetection')
END_TO_END = 'tests/test_end_to_end.py::'
RUNS = (
    ('tests/test_compat', 'tests/test_slim', 'tests/test_models', '-m', 'not slow and not gpu'),
    (  # compiled training; pretraining, calibration and a probe on digits
        'tests/test_models/test_compile.py',
        f'{END_TO_END}test_log_has_losses_of_each_role_widths_and_feature_std',
        f'{END_TO_END}test_linear_probe_writes_a_row_for_each_width',
    ),
)
FOR_TESTS = ('pytest', 'pytest-timeout', 'safetensors', 'scikit-learn', 'setuptools<82')
FORKS = ('onedl-mmengine==0.10.12', 'onedl-mmcv==2.3.6', 'onedl-mmpretrain==1.3.6', 'onedl-mmdetection==3.5.1')

NEEDED_BY_FORKS = (
    'addict',
    'einops',
    'imaug',
    'mat4py',
    'matplotlib',
    'modelindex',
    'opencv-python',
    'pycocotools',
    'pyyaml',
)
NEEDED_BY_FORKS += ('rich', 'scipy', 'shapely', 'six', 'termcolor', 'terminaltables', 'tqdm', 'yapf')


@dataclass(frozen=True)
class Cell:
    """What is installed.

    Attributes:
        about: What it is, for the page.
        python: Version of Python.
        packages: Besides requirements/runtime.txt, detection.txt and those of the tests.
        pinned: Whether requirements/constraints.txt holds.
        free: Packages for which it does not.
        mmcv: Which of mmcv's distributions; full mmcv is compiled.
        instead: Packages that take the place of OpenMMLab's, installed without what they ask for.
    """

    about: str
    python: str
    packages: tuple[str, ...] = ()
    pinned: bool = True
    free: tuple[str, ...] = ()
    mmcv: str = 'mmcv-lite>=2.0.1,<2.2.0'
    instead: tuple[str, ...] = ()


NEWEST = ('torch', 'torchvision', 'numpy>=2.5', 'opencv-python>=5')
PINNED = {
    f'py3{minor}-pinned': Cell('the set that is pinned in requirements/constraints.txt', f'3.{minor}')
    for minor in range(10, 14)
}
CELLS = PINNED | {
    f'py3{minor}-newest': Cell('newest PyTorch, NumPy, OpenCV', f'3.{minor}', NEWEST, False) for minor in (12, 13)
}
CELLS |= {
    'torch21': Cell(
        'the oldest PyTorch that is allowed, the rest pinned',
        '3.11',
        ('torch==2.1.2', 'torchvision==0.16.2'),
        free=('torch', 'torchvision', 'triton', 'sympy'),
    ),
    'torch26': Cell(
        'PyTorch 2.6, the rest pinned',
        '3.12',
        ('torch==2.6.0', 'torchvision==0.21.0'),
        free=('torch', 'torchvision', 'triton', 'sympy'),
    ),
    'transformers5': Cell('transformers 5 beside, PyTorch 2.11', '3.12', ('torch==2.11.0', 'transformers>=5'), False),
    'onedl': Cell('the onedl forks of OpenMMLab', '3.12', ('torch==2.11.0', 'torchvision'), False, instead=FORKS),
    'full-mmcv': Cell('mmcv with compiled operators, the rest pinned', '3.11', mmcv='mmcv==2.1.0'),
}


class Failed(Exception):
    """A step of a cell; its text goes into the page."""


def run(log: Path, *command: str | Path) -> None:
    """Run a command from the root of the repository, with what it prints in a file.

    Raises:
        Failed: If it fails, with its last line.
    """
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg'}
    with log.open('w') as file:
        done = subprocess.run([*map(str, command)], cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()] or ['no output']
        wrong = [line for line in lines if line.startswith('ERROR: ')]
        raise Failed(f'{(wrong or lines)[-1].strip()} (exit status {done.returncode})')


def name_of(requirement: str) -> str:
    """Name of the distribution in a requirement."""
    return re.split(r'[^\w.-]', requirement.strip(), maxsplit=1)[0].lower()


def requirements(cell: Cell) -> list[str]:
    """What a cell asks of pip in its first step."""
    lines = [line for name in ('runtime', 'detection') for line in (ROOT / f'requirements/{name}.txt').open()]
    wanted = [line.partition('  #')[0].strip() for line in lines if line.strip() and not line.startswith('#')]
    if cell.instead:  # what OpenMMLab's packages need must be asked for where they are not installed themselves
        wanted = [line for line in wanted if not line.startswith('mm')]
        return [*wanted, *NEEDED_BY_FORKS, *cell.packages]
    return [*wanted, cell.mmcv, *cell.packages]


def install(cell: Cell, folder: Path) -> None:
    """Make the environment of a cell."""
    run(folder / 'venv.log', f'python{cell.python}', '-m', 'venv', folder / 'venv')
    if 'STACK' in os.environ:
        site = folder / f'venv/lib/python{cell.python}/site-packages'
        (site / 'stack.pth').write_text(os.environ['STACK'] + '\n')
    pip = [folder / 'venv/bin/python', '-m', 'pip', 'install', '--no-compile', '--disable-pip-version-check']
    pip += ['--progress-bar', 'off']
    wanted = [*requirements(cell), *FOR_TESTS]
    if cell.pinned:
        lines = (ROOT / 'requirements/constraints.txt').read_text().splitlines()
        held = folder / 'constraints.txt'
        held.write_text('\n'.join(line for line in lines if name_of(line) not in cell.free))
        pip += ['-c', held]
    sources = ['--no-build-isolation'] if cell.mmcv.startswith('mmcv==') else ['--prefer-binary']
    if cell.pinned and cell.mmcv.startswith('mmcv-lite'):
        sources = ['--only-binary', ':all:']
    if '--no-build-isolation' in sources:  # what mmcv is built with
        run(folder / 'build.log', *pip, 'setuptools', 'wheel', 'torch', 'numpy')
    run(folder / 'pip.log', *pip, *sources, *wanted)
    if cell.instead:  # built where torch is not seen, which leaves the operators of mmcv out
        run(folder / 'forks.log', *pip, '--no-deps', *cell.instead)


def versions(python: Path) -> dict[str, str]:
    """Versions of an environment's Python and of those of ``PACKAGES`` that it has."""
    code = (
        'import json, platform, sys\nfrom importlib import metadata\n'
        'found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}\n'
        'print(json.dumps(dict(Python=platform.python_version(), **{n: found[n] for n in sys.argv[1:] if n in found})))'
    )
    return json.loads(subprocess.run([python, '-c', code, *PACKAGES], check=True, capture_output=True).stdout)


def counts(report: Path) -> dict:
    """Numbers of tests that passed, failed and were skipped, and the names of the failed ones, from pytest's XML."""
    cases = list(ElementTree.parse(report).iter('testcase'))
    failed = [
        f'{case.get("classname")}::{case.get("name")}'
        for case in cases
        if case.find('failure') is not None or case.find('error') is not None
    ]
    skipped = sum(case.find('skipped') is not None for case in cases)
    return dict(passed=len(cases) - skipped - len(failed), skipped=skipped, failed=failed)


def try_out(folder: Path) -> dict:
    """Run the tests in a cell's environment."""
    python, total = folder / 'venv/bin/python', dict(passed=0, skipped=0, failed=[])
    for index, arguments in enumerate(RUNS):
        report, error = folder / f'tests{index}.xml', None
        report.unlink(missing_ok=True)
        try:
            run(folder / f'tests{index}.log', python, '-m', 'pytest', '-q', f'--junitxml={report}', *arguments)
        except Failed as failed:
            error = str(failed)
        if not report.is_file():
            raise Failed(f'pytest {" ".join(arguments[:1])} ended early: {error}')
        for key, value in counts(report).items():
            total[key] += value
    return total


def check(name: str, folder: Path) -> dict:
    """Install a cell where it is not there yet, try it, and tell how it ended."""
    started, result = time.time(), dict(date=time.strftime('%Y-%m-%d'))
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True)
    result['commit'] = commit.stdout.strip()
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / 'installed'
    try:
        if not done.exists():
            install(CELLS[name], folder)
            done.touch()
        result['versions'] = versions(folder / 'venv/bin/python')
        result.update(try_out(folder))
    except (Failed, OSError) as error:
        result['error'] = str(error)
    return dict(result, minutes=round((time.time() - started) / 60, 1))


def ending(result: dict | None) -> str:
    """How a cell ended, in one line of the page."""
    if result is None:
        return 'not run'
    if 'error' in result:
        return result['error'].replace('|', '/')
    text = f'{result["passed"]} passed, {result["skipped"]} skipped'
    return f'**{len(result["failed"])} failed**, {text}' if result['failed'] else text


def page(record: dict) -> str:
    """Text of docs/compatibility.md."""
    from us3l_mm.utils.tables import markdown_table

    rows = []
    for name, cell in CELLS.items():
        result = record.get(name) or {}
        found = ', '.join(f'{key} {value}' for key, value in result.get('versions', {}).items())
        when = f'{result["date"]}, {result["commit"]}' if result else None
        rows.append((f'`{name}`', f'{cell.about}; Python {cell.python}', found or None, ending(result or None), when))
    failed = [f'- `{name}`: `{test}`' for name in CELLS for test in record.get(name, {}).get('failed', [])]
    template = (ROOT / 'tools/dev/compatibility.md').read_text(encoding='utf-8')
    table = markdown_table(('Cell', 'What it is', 'Versions found', 'Tests', 'Date, commit'), rows)
    return template.format(table=table, failed='\n'.join(failed) or 'None.')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('cells', nargs='*', metavar='CELL', help=f'one of {", ".join(CELLS)}; all if not given')
    parser.add_argument('--folder', type=Path, help='where environments are made; a temporary folder if not given')
    parser.add_argument('--keep', action='store_true', help='leave the environments, 7 GB each, and logs in the folder')
    parser.add_argument('--page', action='store_true', help='try nothing, write the page anew from the record')
    args = parser.parse_args()
    for name in args.cells:
        if name not in CELLS:
            parser.error(f'no cell {name!r}; there are {", ".join(CELLS)}')
    return args


def main() -> None:
    args = parse_args()
    from us3l_mm.utils.files import write_text

    if args.page:
        write_text(PAGE, page(json.loads(RECORD.read_text())))
        return
    folder = (args.folder or Path(tempfile.mkdtemp(prefix='us3l_matrix_'))).resolve()
    print(f'environments and logs: {folder}', flush=True)
    bad = False
    for name in args.cells or CELLS:
        print(f'{name} ...', flush=True)
        result = check(name, folder / name)
        print(f'{name}: {ending(result)} ({result["minutes"]} minutes)', flush=True)
        bad |= 'error' in result or bool(result['failed'])
        record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}  # read late: two may run at once
        record[name] = result
        write_text(RECORD, json.dumps(record, indent=1) + '\n')
        write_text(PAGE, page(record))
        if not args.keep:
            shutil.rmtree(folder / name / 'venv', ignore_errors=True)
            (folder / name / 'installed').unlink(missing_ok=True)
    sys.exit(bad)


if __name__ == '__main__':
    main()
