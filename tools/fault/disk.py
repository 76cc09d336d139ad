"""Let the disk run full while a tool writes, and see that it says so, that nothing is lost, and that it can go on.

python tools/fault/disk.py
python tools/fault/disk.py --sample

The disk is a tmpfs of 8 MiB, which needs root. Without it, the steps of saving raise the error of a full disk, and what
is not saved in such steps, log and vis_data, is left out. A case is clear if the exit code is not 0, the last line
names the file and the free space, the checkpoints from before are still there, and the tool ends as on a large disk
once there is room.
"""

import argparse
import errno
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from common import EPOCHS, GOOD, ITERATIONS, LOST, ROOT, SILENT, SUPERVISED, US3L, Outcomes, differences, run
from saving_steps import saved, watch

PROBE = f"""
_base_ = '{ROOT}/configs/digits/r18_1xb128-20e_digits.py'
backbone = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
model = dict(widths=[1.0, 0.5], backbone=backbone, head=dict(in_channels=32))
train_dataloader = dict(batch_size=20, dataset=dict(per_class=5))
val_dataloader = test_dataloader = dict(dataset=dict(per_class=2))
train_cfg = dict(max_epochs=1, val_interval=1)
"""
CONFIGS = {'us3l': US3L, 'supervised': SUPERVISED, 'probe': PROBE}
ROOM = 100_000  # bytes that are left where a file is to fit in part
OUTPUTS = dict(train=f'run/epoch_{EPOCHS}.pth', calibrate_bn='calibrated.pth', linear_probe='run/linear_probe.json')


@dataclass(frozen=True)
class Case:
    """A tool on a disk that runs full.

    Args:
        what (str): What does not fit.
        named (str): What the error must name, a regular expression.
        step (str, optional): Step of saving at which the disk runs full, see :mod:`saving_steps`. Defaults to None:
            it is full from the start.
        number (int): Which of these steps, from 1.
        when (str): ``'before'`` or ``'after'`` it.
        room (int): Bytes that are left.
        tool (str): Name of the tool.
        config (str): Key of CONFIGS.
        options (tuple[str, ...]): What follows ``--cfg-options``.
    """

    what: str
    named: str
    step: str | None = None
    number: int = 1
    when: str = 'before'
    room: int = 0
    tool: str = 'train'
    config: str = 'us3l'
    options: tuple[str, ...] = ()


CASES = [
    Case('the first checkpoint', 'epoch_1.pth', 'put checkpoint.part', room=ROOM),
    Case('a later checkpoint', 'epoch_3.pth', 'put checkpoint.part', 3, room=ROOM),
    Case('last_checkpoint', 'last_checkpoint', 'write_text last_checkpoint.part', 2),
    Case('the best checkpoint', 'best_accuracy_top1_epoch_2.pth', 'put best.part', 2, config='supervised', room=ROOM),
    Case('vis_data', 'logs in ', 'unlink interrupted.pth', when='after'),
    Case('the log', 'epoch_2.pth', 'unlink interrupted.pth', when='after', options=('visualizer.vis_backends=[]',)),
    Case(
        'a report in nonfinite',
        'loss of iteration 2 .*nonfinite',
        'write_text report.part',
        options=('optim_wrapper.optimizer.lr=1e30',),
    ),
    Case("calibrate_bn's output", 'calibrated.pth', room=ROOM, tool='calibrate_bn'),
    Case(
        'linear_probe.json',
        'linear_probe.json',
        'write_text linear_probe.json.part',
        tool='linear_probe',
        config='probe',
    ),
]


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of 8 MiB at a folder; yield whether that was possible."""
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)]
    made = os.getuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield made
    finally:
        if made:
            subprocess.run(['umount', str(folder)], check=True)


def fill(disk: Path, room: int) -> None:
    """Fill a disk, up to ``room`` bytes, and the last pages of logs, into which some lines would go otherwise."""
    for path in (*disk.rglob('*.log'), *disk.rglob('*.json')):
        with open(path, 'a') as file:
            file.write('\n' * (-path.stat().st_size % os.sysconf('SC_PAGE_SIZE')))
    with open(disk / 'ballast', 'wb', buffering=0) as file:
        file.truncate(0)
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - room)


def fail() -> None:
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Lab:
    """The small disk, and what the tools write on a large one."""

    def __init__(self, folder: Path, disk: Path, mounted: bool) -> None:
        self.folder, self.disk, self.mounted = folder, disk, mounted
        self.outcomes = Outcomes()
        self.record = folder / 'steps.txt'
        for name, text in CONFIGS.items():
            (folder / f'{name}.py').write_text(text)

    def run(self, case: Case, place: Path, **options) -> tuple[int, str]:
        """Run the tool of a case, which writes into ``place``; return its exit code and output."""
        arguments = [self.folder / f'{case.config}.py']
        if case.tool == 'calibrate_bn':
            arguments += [self.output('train'), '--widths', 1.0, 0.5, '--out', place / 'calibrated.pth']
        else:
            arguments += [self.output('calibrate_bn')] if case.tool == 'linear_probe' else []
            arguments += ['--work-dir', place / 'run', '--resume']
        if case.options:
            arguments += ['--cfg-options', *case.options]
        log = Path(tempfile.mkdtemp(dir=self.folder), 'log.txt')
        return run(f'tools/{case.tool}.py', *arguments, log=log, **options)

    def output(self, tool: str, config: str = 'us3l') -> Path:
        """What a tool writes where there is room."""
        place = self.folder / f'{tool}_{config}'
        if not place.exists():
            place.mkdir()
            code, text = self.run(Case('', '', tool=tool, config=config), place)
            if code:
                raise RuntimeError(f'{tool} failed without a fault: {text[-2000:]}')
        return place / OUTPUTS[tool]

    def try_case(self, case: Case) -> None:
        """Run a tool on a disk that runs full, and again when there is room; note the outcome."""
        for path in self.disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.record.unlink(missing_ok=True)
        event = functools.partial(fill, self.disk, case.room) if self.mounted else fail
        if case.step is not None:
            event = functools.partial(watch, self.record, (case.step, case.number), case.when, event)
        code, text = self.run(case, self.disk, before=event)
        last = (text.strip().splitlines() or [''])[-1]
        had = max((ITERATIONS * int(name[len('epoch_') : -len('.pth')]) for name in saved(self.record)), default=0)
        (self.disk / 'ballast').unlink(missing_ok=True)
        again, resumed = self.run(case, self.disk)
        outcome, why = GOOD, ''
        if not code or not re.search(f'{case.named}.* MiB free', last):
            outcome, why = SILENT, f'exit code {code}: {last}'
        elif had and f'goes on after iteration {had};' not in resumed:
            outcome, why = LOST, f'did not go on from iteration {had}'
        elif 'nonfinite' in case.named:
            if not any(self.disk.glob('run/nonfinite/*.json')):
                outcome, why = LOST, 'no report once there was room'
        elif again or not same(self.output(case.tool, case.config), self.disk / OUTPUTS[case.tool]):
            outcome, why = LOST, f'exit code {again} once there was room: {resumed.strip().splitlines()[-1]}'
        self.outcomes.add('full disk', outcome, f'no room for {case.what}: {why or last}')


def same(first: Path, second: Path) -> bool:
    """Whether two outputs are the same."""
    if first.suffix == '.json':
        return first.read_text() == second.read_text()
    if 'epoch' in first.name:
        return not differences(first, second)
    states = [torch.load(path, weights_only=True)['state_dict'] for path in (first, second)]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix='disk_') as folder, small_disk(Path(folder, 'disk')) as mounted:
        print('a tmpfs of 8 MiB' if mounted else 'no small disk can be mounted: steps of saving raise its error')
        lab = Lab(Path(folder), Path(folder, 'disk'), mounted)
        for case in CASES[1:4:2] if args.sample else CASES:
            if mounted or (case.step is not None and case.when == 'before'):
                lab.try_case(case)
    lab.outcomes.finish()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Let tools run on a disk that runs full')
    parser.add_argument('--sample', action='store_true', help='a fixed small part, under a minute')
    return parser.parse_args()


if __name__ == '__main__':
    main()
