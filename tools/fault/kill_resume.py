"""Kill trainings at any moment, damage what they left, and see that --resume ends where an uninterrupted training does.

python tools/fault/kill_resume.py
python tools/fault/kill_resume.py --sample

Checkpoints are compared bit by bit: weights, optimizer, schedulers, counters, logged losses and widths. `lost` is what
cannot be resumed or falls behind a finished checkpoint, `silent` what ends otherwise without an error.
"""

import argparse
import functools
import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from common import (
    EPOCHS,
    GOOD,
    ITERATIONS,
    LOST,
    SILENT,
    SUPERVISED,
    US3L,
    Outcomes,
    differences,
    kill,
    run,
    start,
    wait_for,
)
from ranks import start_ranks
from saving_steps import WRITES, label, saved, watch

from us3l_mm.utils.arguments import count_from

CONFIGS = {
    'epochs': US3L,
    'epochs, one checkpoint kept': f'{US3L}default_hooks["checkpoint"]["max_keep_ckpts"] = 1\n',
    'epochs, saved by iteration': f'{US3L}default_hooks["checkpoint"].update(by_epoch=False, interval=5)\n',
    'epochs, the best kept': SUPERVISED,
    'iterations': SUPERVISED
    + f"""
train_cfg = dict(_delete_=True, by_epoch=False, max_iters={EPOCHS * ITERATIONS}, val_interval=4)
param_scheduler = [dict(type='CosineAnnealingLR', T_max={EPOCHS * ITERATIONS}, by_epoch=False)]
default_hooks['checkpoint'].update(by_epoch=False, interval=4)
""",
}
KILLS_A_RUN = 5
LOGGED = r'\((train|val)\)'  # in the line of an iteration
GOES_ON = r'goes on after iteration (\d+)|nothing to resume'


class Lab:
    """Folder of all trainings, random draws, outcomes, and uninterrupted trainings to compare with."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.outcomes = Outcomes()
        self._references: dict[tuple[str, int], Path] = {}
        self.configs = {}
        for index, (name, text) in enumerate(CONFIGS.items()):
            self.configs[name] = folder / f'config_{index}.py'
            self.configs[name].write_text(text)

    def new_folder(self) -> Path:
        """Make a folder for a training; its work dir is ``run`` in it."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def reference(self, name: str, ranks: int = 1) -> Path:
        """Train without interruption, once; return the work dir."""
        if (name, ranks) not in self._references:
            training = Training(self, name, ranks=ranks)
            training.go_on()
            if training.fault:
                raise RuntimeError(f'the uninterrupted training failed: {training.fault}')
            self._references[name, ranks] = training.work_dir
        return self._references[name, ranks]


class Training:
    """A training that is started with --resume, killed, and started again."""

    def __init__(self, lab: Lab, name: str, workers: int = 0, ranks: int = 1, work_dir: Path | None = None) -> None:
        self.lab, self.name, self.ranks = lab, name, ranks
        self.folder = lab.new_folder() if work_dir is None else work_dir.parent
        self.work_dir = self.folder / 'run'
        self.options = ['--resume', '--cfg-options', f'train_dataloader.num_workers={workers}']
        self.options += [f'train_dataloader.dataset.per_class={5 * ranks}']
        self.record = self.folder / 'steps.txt'
        self.starts = 0
        self.kills: list[str] = []
        self.fault = ''
        self.text = ''

    def start(self, **fatal) -> None:
        """Start it, on all ranks, with options of :func:`watch` for the first."""
        self.starts += 1
        self.before = saved(self.record)
        self.log = self.folder / f'log_{self.starts}.txt'
        arguments = (self.lab.configs[self.name], '--work-dir', self.work_dir, *self.options)
        before = functools.partial(watch, self.record, **fatal)
        if self.ranks == 1:
            self.processes = [start('tools/train.py', *arguments, log=self.log, before=before)]
        else:
            logs = [self.log, *(self.log.with_suffix(f'.rank_{rank}.txt') for rank in range(1, self.ranks))]
            self.processes = start_ranks(*arguments, logs=logs, before={0: before})

    def end(self) -> bool:
        """Wait for the end of a start, see that it went on from where it should; return whether it was killed."""
        first = self.processes[0]
        first.join(120)
        hangs = first.is_alive()
        for process in self.processes:
            kill(process)
        self.text = self.log.read_text(errors='replace') if self.log.exists() else ''
        at = re.search(GOES_ON, self.text)
        places = [_iterations(name) for name in self.before]
        if at is not None and int(at[1] or 0) < max(places, default=0):
            self.fault = f'fell back to iteration {at[1] or 0} from {max(places)}'
        if hangs:
            self.fault = 'did not end within 120 s'
        elif first.exitcode not in (0, -9):
            self.fault = f'exit code {first.exitcode}: {(self.text.strip().splitlines() or [""])[-1][:300]}'
        return first.exitcode == -9

    def kill_at_random(self) -> bool:
        """Start it and kill it after some iterations; return whether it was killed before its end."""
        lines = self.lab.random.randrange(2 * ITERATIONS)
        seconds = self.lab.random.uniform(0, 0.1 if lines else 1)
        self.start()
        wait_for(self.processes[0], self.log, LOGGED, lines)
        time.sleep(seconds)
        for process in self.processes:
            process.kill()
        killed = self.end()
        if killed:
            self.kills.append(f'start {self.starts}, {lines} lines and {1000 * seconds:.0f} ms')
        return killed

    def go_on(self) -> None:
        """Start it and wait for its end."""
        if not self.fault:
            self.start()
            self.end()

    def finish(self, kind: str) -> int:
        """Resume to the end and note an outcome for each kill; return how many there were."""
        self.go_on()
        outcome, why = (LOST, self.fault) if self.fault else self.compare()
        cases = self.kills or ['without a kill'] * (outcome != GOOD)
        for case in cases:
            self.lab.outcomes.add(kind, outcome, f'{case}{why and f" ({why}; {self.folder})"}')
        if outcome == GOOD:
            shutil.rmtree(self.folder)
        return len(cases)

    def compare(self) -> tuple[str, str]:
        """Compare the last checkpoint, and the best if there is one, with those of an uninterrupted training."""
        reference = self.lab.reference(self.name, self.ranks)
        for pattern in ('best_*.pth', f'*[a-z]_{EPOCHS * ITERATIONS if self._by_iteration else EPOCHS}.pth'):
            expected, found = (
                sorted(path.name for path in folder.glob(pattern)) for folder in (reference, self.work_dir)
            )
            if expected != found:
                return LOST, f'{found} instead of {expected}'
            for name in found:
                if different := differences(reference / name, self.work_dir / name):
                    return SILENT, f'{name}: {"; ".join(different[:3])}'
        return GOOD, ''

    @property
    def _by_iteration(self) -> bool:
        return 'iteration' in self.name


def _iterations(checkpoint: str) -> int:
    number = int(re.search(r'\d+', checkpoint)[0])
    return number if checkpoint.startswith('iter') else number * ITERATIONS


def random_moments(lab: Lab, name: str, count: int, ranks: int = 1) -> None:
    """Kill trainings with 0, 1 and 2 data-loading workers at random moments."""
    where = f'{ranks} processes' if ranks > 1 else '0, 1 and 2 workers'
    workers = itertools.cycle([0] if ranks > 1 else [2, 1, 0])
    while count > 0:
        training = Training(lab, name, next(workers), ranks)
        for _ in range(min(count, KILLS_A_RUN)):
            if not training.kill_at_random():
                break
        count -= training.finish(f'SIGKILL at a random moment: {name}; {where}')


def saving_moments(lab: Lab, name: str, count: int) -> None:
    """Kill trainings before, in and after each step of saving; random ones beyond these."""
    steps = dict.fromkeys(label(line) for line in (lab.reference(name).parent / 'steps.txt').read_text().splitlines())
    moments = [(step, when) for step in steps for when in ('before', 'midway', 'after') if _possible(step, when)]
    lab.random.shuffle(moments)
    moments = (moments * count)[:count]
    while moments:
        training = Training(lab, name)
        for step, when in moments[:KILLS_A_RUN]:
            number = lab.random.choice([1, 2]) if training.kills else 1
            training.start(at=(step, number), when=when)
            if not training.end():  # there was no such step left
                break
            training.kills.append(f'{when} {step}, number {number} of start {training.starts}')
        if not training.kills and not training.fault:
            raise RuntimeError(f'{name} never came to {moments[0]}')
        del moments[: training.finish(f'SIGKILL while saving: {name}')]


def _possible(step: str, when: str) -> bool:
    return when != 'midway' or step.startswith(WRITES)


def _cut(path: Path, share: float) -> None:
    os.truncate(path, int(share * path.stat().st_size))


def _zero(path: Path, first: float, last: float) -> None:
    data = bytearray(path.read_bytes())
    begin, end = int(first * len(data)), int(last * len(data))
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)


# What is done to a work dir with epoch_1.pth to epoch_3.pth, the epoch to go on from, and what warnings must name.
DAMAGES: dict[str, tuple[Callable[[Path], object], int, list[str]]] = {
    'nothing: a copy goes on from itself': (lambda d: None, 3, []),
    'newest checkpoint cut in half': (lambda d: _cut(d / 'epoch_3.pth', 0.5), 2, ['epoch_3.pth', 'epoch_2.pth']),
    'newest checkpoint cut by 1 %': (lambda d: _cut(d / 'epoch_3.pth', 0.99), 2, ['epoch_3.pth', 'epoch_2.pth']),
    'newest checkpoint empty': (lambda d: _cut(d / 'epoch_3.pth', 0), 2, ['epoch_3.pth', 'epoch_2.pth']),
    'newest checkpoint all zeros': (lambda d: _zero(d / 'epoch_3.pth', 0, 1), 2, ['epoch_3.pth', 'epoch_2.pth']),
    'zeros in the newest checkpoint': (
        lambda d: _zero(d / 'epoch_3.pth', 0.5, 0.51),
        2,
        ['epoch_3.pth', 'epoch_2.pth'],
    ),
    'newest checkpoint missing': (lambda d: (d / 'epoch_3.pth').unlink(), 2, ['epoch_3.pth', 'epoch_2.pth']),
    'two newest checkpoints cut': (
        lambda d: [_cut(d / f'epoch_{epoch}.pth', 0.5) for epoch in (2, 3)],
        1,
        ['epoch_3.pth', 'epoch_2.pth', 'epoch_1.pth'],
    ),
    'newest checkpoint cut, last_checkpoint missing': (
        lambda d: [_cut(d / 'epoch_3.pth', 0.5), (d / 'last_checkpoint').unlink()],
        2,
        ['epoch_3.pth', 'epoch_2.pth'],
    ),
    'last_checkpoint missing': (lambda d: (d / 'last_checkpoint').unlink(), 3, []),
    'last_checkpoint empty': (lambda d: (d / 'last_checkpoint').write_text(''), 3, []),
    'last_checkpoint no text': (lambda d: (d / 'last_checkpoint').write_bytes(bytes(range(256))), 3, []),
    'last_checkpoint names an older one': (lambda d: (d / 'last_checkpoint').write_text('epoch_1.pth'), 3, []),
    'last_checkpoint names a folder that is gone': (
        lambda d: (d / 'last_checkpoint').write_text('/gone/run/epoch_3.pth'),
        3,
        [],
    ),
    'last_checkpoint names another training': (
        lambda d: (d / 'last_checkpoint').write_text(str(d.parent.parent / 'other/epoch_3.pth')),
        3,
        [],
    ),
    'times of all files equal': (lambda d: [os.utime(path, (0, 0)) for path in d.iterdir()], 3, []),
}


def damages(lab: Lab, cases: list[str]) -> None:
    """Resume from copies of a work dir that were damaged."""
    original = Training(lab, 'epochs')
    original.start(at=('replace last_checkpoint', 3), when='after')
    original.end()
    other = lab.folder / 'other'
    if not other.exists():
        shutil.copytree(original.work_dir, other)
        seed = ('--cfg-options', 'randomness.seed=1')
        run(
            'tools/train.py',
            lab.configs['epochs'],
            '--work-dir',
            other,
            '--overwrite',
            *seed,
            log=lab.folder / 'other.txt',
        )
    before = _hashes(original.work_dir), _hashes(other)
    for case in cases:
        damage, epoch, names = DAMAGES[case]
        training = Training(lab, 'epochs')
        shutil.copytree(original.work_dir, training.work_dir)
        damage(training.work_dir)
        training.kills.append(case)
        training.go_on()
        went_on = f'goes on after iteration {ITERATIONS * epoch};'
        warnings = '\n'.join(line for line in training.text.splitlines() if 'WARNING' in line)
        if not training.fault and went_on not in training.text:
            training.fault = f'did not go on from epoch {epoch}'
        if not training.fault and not all(name in warnings for name in names):
            training.fault = f'no warning of {" and ".join(names)}'
        training.finish('damaged or moved work dir')
    outcome = GOOD if before == (_hashes(original.work_dir), _hashes(other)) else LOST
    lab.outcomes.add('damaged or moved work dir', outcome, 'the work dirs that were copied stay as they are')


def _hashes(folder: Path, pattern: str = '*') -> dict[Path, str]:
    """Hashes of the files in a folder, without that of the lock, which each start holds for a moment."""
    files = [path for path in folder.rglob(pattern) if path.is_file() and path.name != 'train.lock']
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refusals(lab: Lab, sample: bool) -> None:
    """See that nothing is trained over, by two trainings at once or by mistake."""
    for workers in (2,) if sample else (0, 2):
        second_training(lab, workers)
    work_dir = lab.new_folder() / 'run'
    shutil.copytree(lab.reference('epochs'), work_dir)
    last = work_dir / f'epoch_{EPOCHS}.pth'
    config = lab.configs['epochs']
    here = (config, '--work-dir', work_dir)
    refused(
        lab, 'a work dir with checkpoints, without --resume', *here, says=f'{work_dir} has checkpoints', keeps=work_dir
    )
    if not sample:
        log = lab.new_folder() / 'log.txt'
        calibrated = work_dir / 'calibrated.pth'
        run('tools/calibrate_bn.py', config, last, '--widths', 1.0, 0.5, '--out', calibrated, log=log)
        weights = torch.load(last, weights_only=True)['state_dict']
        torch.save(dict(meta={}, state_dict=weights), work_dir / 'published.pth')
        torch.save(weights, work_dir / 'weights.pth')
        for name in ('calibrated', 'published', 'weights'):
            says = f'{name}.pth is no checkpoint of a training'
            refused(
                lab,
                f'--resume of a {name} file',
                *here,
                '--resume',
                work_dir / f'{name}.pth',
                says=says,
                keeps=work_dir,
            )
    overwriting = Training(lab, 'epochs', work_dir=work_dir)
    overwriting.options[0] = '--overwrite'
    overwriting.kills.append('--overwrite trains from the start')
    overwriting.finish('a work dir that is taken')
    if not sample:
        torn = lab.new_folder() / 'run'
        shutil.copytree(lab.reference('epochs'), torn)
        for path in torn.glob('*.pth'):
            _cut(path, 0.5)
        says = f'no sound checkpoint in {torn}'
        refused(lab, 'all checkpoints torn', config, '--work-dir', torn, '--resume', says=says, keeps=torn)


def second_training(lab: Lab, workers: int) -> None:
    """Start a second training beside one that lives, and at once after its death."""
    first = Training(lab, 'epochs', workers)
    first.start()
    wait_for(first.processes[0], first.log, LOGGED)
    os.kill(first.processes[0].pid, signal.SIGSTOP)  # it lives, and does not end meanwhile
    for options in ([], ['--resume'], ['--overwrite']):
        arguments = (lab.configs['epochs'], '--work-dir', first.work_dir, *options)
        case = ' '.join(['a second training', *options, f'beside one of {workers} workers'])
        refused(lab, case, *arguments, says='another training is at work', keeps=first.work_dir)
    first.processes[0].kill()  # its workers live on for a while
    first.processes[0].join()
    second = Training(lab, 'epochs', work_dir=first.work_dir)
    second.starts = first.starts
    second.kills.append(f'--resume at once after SIGKILL of one of {workers} workers')
    second.finish('a work dir that is taken')
    first.end()


def refused(lab: Lab, case: str, *arguments: object, says: str, keeps: Path) -> None:
    """Note whether a training is refused by a message, with the checkpoints left as they were."""
    before = _hashes(keeps, '*.pth')
    code, text = run('tools/train.py', *arguments, log=lab.new_folder() / 'log.txt')
    last = (text.strip().splitlines() or [''])[-1]
    if _hashes(keeps, '*.pth') != before:
        outcome, why = LOST, 'checkpoints are changed'
    else:
        outcome, why = (GOOD, '') if code and says in last else (SILENT, f'exit code {code}: {last}')
    lab.outcomes.add('a work dir that is taken', outcome, f'{case}{why and f" ({why})"}')


def main() -> None:
    args = parse_args()
    folder = Path(tempfile.mkdtemp(prefix='kill_resume_'))
    lab = Lab(folder, args.seed)
    few = args.sample
    for name in ['epochs, saved by iteration'] if few else ['epochs', 'epochs, saved by iteration', 'iterations']:
        random_moments(lab, name, 1 if few else args.count)
    random_moments(lab, 'epochs', 1 if few else min(args.count, 5), ranks=2)
    for name in ['epochs, one checkpoint kept', 'epochs, the best kept', *([] if few else ['epochs'])]:
        saving_moments(lab, name, 2 if few else args.count)
    damages(lab, list(DAMAGES)[1::8] if few else list(DAMAGES))
    refusals(lab, few)
    lab.outcomes.finish()
    shutil.rmtree(folder)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Kill and resume trainings', formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--sample', action='store_true', help='a fixed small part, under a minute')
    parser.add_argument('--count', type=count_from(1), default=25, help='kills of each kind')
    parser.add_argument('--seed', type=count_from(0), default=0, help='seed of the moments')
    return parser.parse_args()


if __name__ == '__main__':
    main()
