"""Send signals to trainings at chosen moments: do they stop as promised, and does the resumed one end bit-equal?

python tools/fault/signals.py
python tools/fault/signals.py --sample

A training stands still at a moment, such as in a validation, while it alone, or each process of its group, gets a
signal. Asked for: the exit code of docs/reliability.md, one line of log and no traceback, and after --resume the same
last checkpoint as without a signal. Of two processes (gloo) one gets the signal, or torchrun does.
"""

import argparse
import contextlib
import itertools
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from common import EPOCHS, GOOD, LOST, SUPERVISED, Outcomes, differences, kill, run, start, wait_for
from moments import HERE, MOMENTS, stand_still
from ranks import RANKS, gone, start_ranks, start_torchrun

TRAIN = 'tools/train.py'
# What is sent, and the exit code of a training that is not over.
SENT = {
    'SIGTERM': ([signal.SIGTERM], 143),
    'SIGINT': ([signal.SIGINT], 130),
    'SIGINT twice': ([signal.SIGINT, signal.SIGINT], 130),
    'SIGUSR1': ([signal.SIGUSR1], 0),
    'SIGUSR1, then killed': ([signal.SIGUSR1], -signal.SIGKILL),
}
EARLY = ('building the model',)  # nothing to save: the training ends at once
OVER = ('after the training',)
OF_WORKERS = ('starting workers',)
PROCESS, GROUP, ONE, TORCHRUN = 'the process', 'its group', 'one of two processes', 'torchrun'
SEVERAL = (ONE, TORCHRUN)
SECONDS = 60  # within which a training has to end


@dataclass(frozen=True)
class Case:
    """What is sent, to whom, when; with how many data-loading workers."""

    sent: str
    to: str
    moment: str
    workers: int

    def __str__(self) -> str:
        return f'{self.sent} to {self.to}, {self.moment}, {self.workers} workers'


SAMPLE = (
    Case('SIGTERM', GROUP, 'iteration', 2),
    Case('SIGINT', PROCESS, 'validation', 0),
    Case('SIGUSR1, then killed', PROCESS, 'iteration', 0),
    Case('SIGTERM', ONE, 'iteration', 2),
)


def all_cases() -> list[Case]:
    """One process by itself, two processes, and torchrun."""
    alone = [
        Case(*case)
        for case in itertools.product(SENT, (PROCESS, GROUP), MOMENTS, (0, 2))
        if case[3] or case[2] not in OF_WORKERS
        if not (case[0] == 'SIGUSR1, then killed' and case[2] in (*EARLY, *OVER))
    ]
    two = [
        Case(sent, ONE, moment, workers)
        for sent in ('SIGTERM', 'SIGINT', 'SIGUSR1', 'SIGUSR1, then killed')
        for moment, workers in (('iteration', 2), ('validation', 0))
    ]
    by_torchrun = [Case(sent, TORCHRUN, 'iteration', 0) for sent in ('SIGTERM', 'SIGINT', 'SIGUSR1')]
    return alone + two + by_torchrun


class Trainings:
    """Trainings in a folder, all of one config for each number of workers, and how one ends without a signal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole: dict[tuple[int, bool], Path] = {}
        self.count = 0

    def config(self, workers: int, two: bool) -> Path:
        """Config with so many workers for training and for validation, and epochs of three iterations."""
        path = self.folder / f'workers_{workers}_{two}.py'
        persistent = f'persistent_workers={workers > 0}'  # in training and at once in validation: the most to go wrong
        path.write_text(
            f'{SUPERVISED}\ntrain_dataloader.update(num_workers={workers}, {persistent})\n'
            f'train_dataloader["dataset"]["per_class"] = {10 if two else 5}\n'
            f'val_dataloader.update(num_workers={workers}, {persistent}, batch_size=25)\n'
        )
        return path

    def expected(self, workers: int, two: bool) -> Path:
        """Work dir of a training without a signal, by one process or by two; made once."""
        if (workers, two) not in self.whole:
            work = self.folder / f'whole_{workers}_{two}'
            code, log = self.finish(work, workers, two)
            if code:
                raise SystemExit(f'the training without a signal fails:\n{log[-3000:]}')
            self.whole[workers, two] = work
        return self.whole[workers, two]

    def finish(self, work: Path, workers: int, two: bool) -> tuple[int, str]:
        """Train to the end, from where the work dir is; return the exit code and the log."""
        arguments = (self.config(workers, two), '--work-dir', work, '--resume')
        if not two:
            return run(TRAIN, *arguments, log=work.with_suffix('.finished'))
        logs = [work.with_suffix(f'.finished{rank}') for rank in range(RANKS)]
        ranks = start_ranks(*arguments, logs=logs)
        for process in ranks:
            process.join(SECONDS)
            kill(process)
        return max(abs(process.exitcode) for process in ranks), logs[0].read_text()

    def fault(self, case: Case) -> str | None:
        """Run a case; say what is wrong."""
        self.count += 1
        two = case.to in SEVERAL
        expected = self.expected(case.workers, two)
        work, go = (self.folder / f'{self.count}{suffix}' for suffix in ('', '.go'))
        logs = [self.folder / f'{self.count}.{rank}.log' for rank in range(RANKS if case.to == ONE else 1)]
        processes = self.start(case, work, logs, go)
        try:
            if not wait_for(processes[0], logs[0], HERE):
                return f'ended before: {tail(logs[0])}'
            self.send(case, processes, logs[0], go)
            for process in processes:
                process.join(SECONDS)
            if any(process.is_alive() for process in processes) or not gone(work, SECONDS):
                return f'still runs after {SECONDS} s: {tail(logs[0])}'
        finally:
            for process in processes:
                kill(process)
            gone(work, 1, end=True)
        faults = [wrong_end(case, process.exitcode, logs[0].read_text()) for process in processes]
        faults += ['a traceback' for log in logs[1:] if 'Traceback' in log.read_text()]
        if any(faults):
            return next(filter(None, faults))
        if any(process.exitcode for process in processes):
            code, text = self.finish(work, case.workers, two)
            if code:
                return f'the resumed training ends with {code}: {text[-1000:]}'
        return different(expected, work)

    def start(self, case: Case, work: Path, logs: list[Path], go: Path) -> list[BaseProcess]:
        """Start the training of a case, the first process of which stands still at the moment."""
        arguments = (self.config(case.workers, case.to in SEVERAL), '--work-dir', work)
        if case.to == TORCHRUN:
            return [start_torchrun(*arguments, log=logs[0], rank=0, moment=case.moment, go=go)]
        before = partial(stand_still, case.moment, go)
        if case.to == ONE:
            return start_ranks(*arguments, logs=logs, before={0: before})
        return [start(TRAIN, *arguments, log=logs[0], before=before)]

    def send(self, case: Case, processes: list[BaseProcess], log: Path, go: Path) -> None:
        """Send the signals of a case and let the training go on."""
        send, process = os.killpg if case.to == GROUP else os.kill, processes[-1]  # the last of two
        for number in SENT[case.sent][0]:
            if not process.is_alive():
                break
            with contextlib.suppress(ProcessLookupError):  # it may end just now
                send(process.pid, number)
            time.sleep(0.3)
        go.touch()
        if case.sent == 'SIGUSR1, then killed' and wait_for(processes[0], log, 'going on'):
            for process in processes:
                process.kill()


def tail(log: Path) -> str:
    return log.read_text()[-1000:]


def different(expected: Path, work: Path) -> str | None:
    """How the last and the best checkpoint of a training differ from those of another."""
    for path in sorted(expected.glob('*.pth')):
        if not (work / path.name).is_file():
            return f'no {path.name}, only {sorted(found.name for found in work.glob("*.pth"))}'
    found = differences(expected / f'epoch_{EPOCHS}.pth', work / f'epoch_{EPOCHS}.pth')
    return f'another result: {"; ".join(found[:3])}' if found else None


def wrong_end(case: Case, code: int | None, log: str) -> str | None:
    """Say what is wrong with the exit code and the log of a training that got a signal."""
    expected = SENT[case.sent][1]
    if case.to == TORCHRUN:  # it has exit codes and tracebacks of its own
        return None if 'stopping' in log else f'no line of a process that stops: {log[-1000:]}'
    if code != expected and not (case.to == ONE and expected == -signal.SIGKILL and code):  # one may fail by the other
        return f'exit code {code}, not {expected}: {log[-1000:]}'
    if 'Traceback' in log and code != -signal.SIGKILL:  # then workers may tell that it is gone
        return f'a traceback: {log[log.index("Traceback") :][-1000:]}'
    lines = re.findall(r'SIG\w+ after iteration .*', log)
    if case.moment in (*EARLY, *OVER) or (case.sent == 'SIGINT twice' and not lines):
        return f'{len(lines)} lines: {lines}' if lines else None
    return None if len(lines) == 1 else f'{len(lines)} lines of log, not one: {lines}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sample', action='store_true', help='a fixed few cases, in under a minute')
    parser.add_argument('--only', default='', help='only cases with this in their description')
    args = parser.parse_args()
    cases = [case for case in all_cases() if args.only in str(case)]
    if args.sample:
        cases = [case for case in cases if case in SAMPLE]
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix='signals-') as folder:
        trainings = Trainings(Path(folder))
        for case in cases:
            fault = trainings.fault(case)
            outcomes.add(
                f'{case.sent} to {case.to}', GOOD if fault is None else LOST, f'{case}: {fault}' if fault else str(case)
            )
    outcomes.finish()


if __name__ == '__main__':
    main()
