"""Make losses, images, weights or gradients of a training infinite or NaN: does it stop in time, and lose nothing?

python tools/fault/nonfinite.py
python tools/fault/nonfinite.py --sample

Asked for: the training stops within 20 iterations with an exit code that is not 0; every checkpoint that is left is
finite and from before; nonfinite/ names iteration, widths, images and seeds; the resumed training comes to the same
iteration. With on_nonfinite='skip' it goes on, counts, and stops at the limit.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
import torch
from common import GOOD, LOST, ROOT, SILENT, SUPERVISED, US3L, Outcomes, kill, run
from mmengine.model import is_model_wrapper
from ranks import RANKS, start_ranks

from us3l_mm.engine.loops import ResumableLoop

BAD, LATEST = 13, 20  # iteration, from 0, and how many may follow
EPOCHS = 14
LONGER = f"""
train_cfg.update(max_epochs={EPOCHS})
default_hooks['checkpoint'].update(interval=4)
"""
DETECTOR = f"""
_base_ = ['{ROOT}/configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py']
train_dataloader = dict(batch_size=1, dataset=dict(data_root='SCENES/'))
val_dataloader = val_evaluator = val_cfg = test_dataloader = test_evaluator = test_cfg = None
model = dict(backbone=dict(init_cfg=None))
train_cfg = dict(val_interval=100)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4))
"""
DIVERGES = "optim_wrapper['optimizer']['lr'] = 1e18\n"
SKIP = "custom_hooks = [dict(type='us3l_mm.NonFiniteHook', on_nonfinite='skip', max_skipped={})]\n"


def spoil(what: str) -> None:
    """Make images, a weight or a gradient of iteration ``BAD`` not finite, in this process."""
    run_iter = ResumableLoop.run_iter

    def spoiling(loop: Any, *args: Any) -> None:
        model = loop.runner.model.module if is_model_wrapper(loop.runner.model) else loop.runner.model
        weight = next(iter(model.backbone.parameters()))
        batch = args[-1]
        handle = None
        if loop._iter == BAD and what == 'images':
            first = batch['inputs'] if isinstance(batch['inputs'], torch.Tensor) else batch['inputs'][0]
            bad = first.float()
            bad[...] = torch.nan
            args = (
                *args[:-1],
                {**batch, 'inputs': [bad, *batch['inputs'][1:]] if first is not batch['inputs'] else bad},
            )
        elif loop._iter == BAD and what == 'weights':
            weight.data.view(-1)[0] = torch.inf
        elif loop._iter == BAD and what == 'gradient':
            handle = weight.register_hook(lambda gradient: gradient * torch.nan)
        run_iter(loop, *args)
        if handle is not None:
            handle.remove()

    ResumableLoop.run_iter = spoiling


# For each case: the config, what is spoilt, more arguments, the iteration that is named (None: any).
CASES: dict[str, tuple[str, str | None, tuple[str, ...], int | None]] = {
    'US3L, learning rate': (US3L + LONGER + DIVERGES, None, (), None),
    'US3L, images': (US3L + LONGER, 'images', (), BAD),
    'US3L, weights': (US3L + LONGER, 'weights', (), BAD),
    'US3L, gradient': (US3L + LONGER, 'gradient', (), None),
    'US3L, bfloat16, images': (US3L + LONGER, 'images', ('--amp', 'bfloat16'), BAD),
    'one width, learning rate': (SUPERVISED + LONGER + DIVERGES, None, (), None),
    'one width, images': (SUPERVISED + LONGER, 'images', (), BAD),
    'one width, gradient': (SUPERVISED + LONGER, 'gradient', (), BAD + 1),
    'detector, weights': (DETECTOR, 'weights', (), BAD),
    'detector, gradient': (DETECTOR, 'gradient', (), BAD + 1),
}
SAMPLE = ('US3L, images', 'one width, gradient')


def stopped_well(work: Path, log: str, code: int, named: int | None) -> str | None:
    """Say what is wrong with a training that had to stop."""
    if not code:
        return 'it ended with exit code 0'
    (report,) = sorted((work / 'nonfinite').glob('*.json')) or [None]
    if report is None:
        return f'no report in nonfinite/: {log[-1500:]}'
    found = json.loads(report.read_text())
    bad = found['iteration'] - 1
    if named is not None and bad != named:
        return f'iteration {bad + 1} is named, {named + 1} was bad'
    if not found['images'] or found['seeds']['seed'] is None:
        return f'the report lacks images or seeds: {found}'
    if str(report) not in log or 'Lower the learning rate' not in log:
        return f'the error does not name the report: {log[-1000:]}'
    epochs = re.findall(r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\]', log)
    last = max((int(epoch) - 1) * int(length) + int(index) for epoch, index, length in epochs)
    if last > bad + LATEST:
        return f'stopped after iteration {last}, {bad + 1} was bad'
    for path in work.glob('*.pth'):
        checkpoint = torch.load(path, weights_only=True)
        if checkpoint['meta']['iter'] > bad:
            return f'{path.name} is from after iteration {bad + 1}'
        if not all(value.isfinite().all() for value in checkpoint['state_dict'].values()):
            return f'{path.name} is not finite'
    return None


def run_stopping(name: str, folder: Path) -> tuple[str, str]:
    """Run a case that has to stop, and resume it; return the outcome and its reason."""
    text, what, arguments, named = CASES[name]
    config, work = folder / 'config.py', folder / 'work'
    config.write_text(text.replace('SCENES', str(folder.parent / 'scenes')))
    before = None if what is None else partial(spoil, what)
    command = ('tools/train.py', config, '--work-dir', work, *arguments)
    code, log = run(*command, log=folder / 'log', before=before)
    fault = stopped_well(work, log, code, named)
    if fault is not None:
        return (LOST if code else SILENT), fault
    (report,) = (work / 'nonfinite').glob('*.json')
    report.unlink()
    code, log = run(*command, '--resume', log=folder / 'resumed', before=before)
    if not report.exists():
        return LOST, f'the resumed training does not come to the same iteration: {log[-1000:]}'
    return GOOD, f'stopped, and so did the resumed one, for iteration {report.stem.split("_")[1]}'


def run_skipping(what: str, limit: int, folder: Path) -> tuple[str, str]:
    """Let a training leave out an update for a gradient or images, at most ``limit`` of them."""
    config, work = folder / 'config.py', folder / 'work'
    config.write_text(SUPERVISED + LONGER + SKIP.format(limit))
    code, log = run('tools/train.py', config, '--work-dir', work, log=folder / 'log', before=partial(spoil, what))
    if limit == 0:
        told = '0 updates were left out before (max_skipped)' in log
        return (GOOD, 'stopped at the limit') if code and told else (SILENT, f'exit code {code}: {log[-1000:]}')
    state = torch.load(work / f'epoch_{EPOCHS}.pth', weights_only=True)['state_dict'] if not code else {}
    finite = state and all(value.isfinite().all() for value in state.values())
    told = f'a gradient of iteration {BAD + 1} is not finite: update left out, 1 of at most {limit}' in log
    return (GOOD, 'went on, counted 1') if finite and told else (LOST, f'exit code {code}: {log[-1000:]}')


def run_ranks(folder: Path) -> tuple[str, str]:
    """Spoil the images of one of two processes."""
    config, work = folder / 'config.py', folder / 'work'
    config.write_text(US3L + LONGER + "train_dataloader['dataset']['per_class'] = 10\n")
    logs = [folder / f'log{rank}' for rank in range(RANKS)]
    before: dict[int, Callable[[], object]] = {1: partial(spoil, 'images')}
    ranks = start_ranks(config, '--work-dir', work, logs=logs, before=before)
    ranks[1].join(200)
    ranks[0].join(60)
    alive = [process for process in ranks if process.is_alive()]
    for process in ranks:
        kill(process)
    reports = [json.loads(path.read_text()) for path in (work / 'nonfinite').glob('*.json')]
    if alive or not all(process.exitcode for process in ranks) or not reports:
        return (
            LOST,
            f'{len(alive)} still run, exit codes {[process.exitcode for process in ranks]}, {len(reports)} reports',
        )
    first = min(report['iteration'] for report in reports)
    return (GOOD, 'both stopped') if first == BAD + 1 else (LOST, f'iteration {first} is named, {BAD + 1} was bad')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sample', action='store_true', help='a fixed few cases, in under a minute')
    args = parser.parse_args()
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix='nonfinite-') as name:
        root = Path(name)
        jobs: dict[str, Callable[[Path], tuple[str, str]]] = {
            case: partial(run_stopping, case) for case in (SAMPLE if args.sample else CASES)
        }
        skips = [('gradient', 3)] if args.sample else [('gradient', 0), ('gradient', 3), ('images', 3)]
        jobs |= {f'skip {what}, at most {limit}': partial(run_skipping, what, limit) for what, limit in skips}
        if not args.sample:
            jobs['US3L, images of one of two processes'] = run_ranks
            scenes = (root / 'scenes', '--train', '8', '--val', '2')
            run('tools/dataset_converters/make_digit_scenes.py', *scenes, log=root / 'log')
        for number, (case, job) in enumerate(jobs.items()):
            folder = root / str(number)
            folder.mkdir()
            outcome, why = job(folder)
            outcomes.add(case, outcome, why)
    outcomes.finish()


if __name__ == '__main__':
    main()
