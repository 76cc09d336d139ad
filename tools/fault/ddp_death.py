"""End one process of a training of two, by torchrun: does all of it end, how soon, and does it resume bit-equal?

python tools/fault/ddp_death.py
python tools/fault/ddp_death.py --sample

A rank stands still at a moment and is killed, stopped or made to fail there. Two processes over gloo on a CPU. The
config's timeout, env_cfg.dist_cfg.timeout, is short here, because a rank that is stopped shows by it alone. torchrun
then waits 30 s before it kills what does not end.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from common import EPOCHS, GOOD, LOST, US3L, Outcomes, differences, kill, wait_for
from moments import HERE
from ranks import RANKS, gone, start_ranks, start_torchrun

TIMEOUT = 15  # seconds, of the config
TORCHRUN_GRACE = 30  # seconds
CONFIG = f"""{US3L}
env_cfg = dict(dist_cfg=dict(backend='gloo', timeout={TIMEOUT}))
train_dataloader.update(num_workers=1)
train_dataloader['dataset']['per_class'] = 10
"""
# For each case: the rank, its moment, and what is done to it.
CASES = {
    'a rank is killed': (1, 'iteration', 'kill'),
    'the first rank is killed': (0, 'iteration', 'kill'),
    'the first rank is killed while it writes a checkpoint': (0, 'writing a checkpoint', 'kill'),
    'a rank fails': (1, 'iteration', 'fail'),
    'a rank is stopped': (1, 'iteration', 'stop'),
    'a data-loading worker of a rank is killed': (1, 'iteration', 'kill worker'),
    'torchrun is killed': (1, 'iteration', 'kill torchrun'),
}
SAMPLE = ('a rank is killed', 'torchrun is killed')


def strike(how: str, torchrun: BaseProcess, rank: int, go: Path) -> None:
    """Do to a rank, by the number of its process, what the case says, and let it go on."""
    if how == 'fail':
        go.write_text('a fault of this rank')
        return
    if how == 'kill worker':
        children = Path(f'/proc/{rank}/task/{rank}/children').read_text().split()
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
    elif how == 'kill torchrun':
        torchrun.kill()
    else:
        os.kill(rank, signal.SIGSTOP if how == 'stop' else signal.SIGKILL)
    go.touch()


def resume(config: Path, work: Path) -> str | None:
    """Train to the end from where the work dir is; say what is wrong."""
    logs = [work.with_suffix(f'.{rank}.log') for rank in range(RANKS)]
    ranks = start_ranks(config, '--work-dir', work, '--resume', logs=logs)
    for process in ranks:
        process.join(120)
        kill(process)
    bad = [log.read_text()[-1000:] for process, log in zip(ranks, logs) if process.exitcode]
    return bad[0] if bad else None


def run_case(name: str, config: Path, folder: Path, expected: Path) -> tuple[str | None, float]:
    """Run a case; say what is wrong, and how many seconds the training took to end."""
    rank, moment, how = CASES[name]
    work, go, log = (folder / f'{name.replace(" ", "-")}{suffix}' for suffix in ('', '.go', '.log'))
    torchrun = start_torchrun(config, '--work-dir', work, log=log, rank=rank, moment=moment, go=go)
    try:
        if not wait_for(torchrun, log, HERE):
            return f'ended before: {log.read_text()[-1000:]}', 0.0
        process = int(re.search(rf'{HERE} (\d+)', log.read_text())[1])
        begin = time.monotonic()
        strike(how, torchrun, process, go)
        limit = TIMEOUT + TORCHRUN_GRACE + 15
        ended = gone(work, limit)
        seconds = time.monotonic() - begin
        torchrun.join(10)
        if not ended or torchrun.is_alive():
            return f'still there after {limit} s', seconds
    finally:
        kill(torchrun)
        gone(work, 5, end=True)
    if not torchrun.exitcode:
        return 'exit code 0', seconds
    fault = resume(config, work)
    if fault is None:
        last = f'epoch_{EPOCHS}.pth'
        fault = '; '.join(differences(expected / last, work / last)[:3]) or None
    return fault, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sample', action='store_true', help='a fixed few cases, in under a minute')
    args = parser.parse_args()
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix='ddp-') as name:
        folder = Path(name)
        config, expected = folder / 'config.py', folder / 'whole'
        config.write_text(CONFIG)
        fault = resume(config, expected)
        if fault is not None:
            raise SystemExit(f'the training fails by itself:\n{fault}')
        for case in SAMPLE if args.sample else CASES:
            fault, seconds = run_case(case, config, folder, expected)
            outcomes.add(case, LOST if fault else GOOD, fault or f'ended within {seconds:.0f} s, resumed equal')
    outcomes.finish()


if __name__ == '__main__':
    main()
