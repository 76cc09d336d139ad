"""Say in words how a training went."""

import math
from dataclasses import dataclass

from .run_folder import RunFolder

COLLAPSED = 0.3  # feature_std below which a network tells few images apart, as for the monitor; 1 is healthy
_LAST = 3  # logged lines that count as the end of a training


@dataclass(frozen=True)
class Verdict:
    """How a training went: ``word`` is healthy, finished, unfinished, collapsed or diverged; ``reason`` says why."""

    word: str
    reason: str


def training_length(run: RunFolder) -> tuple[int, int | None, str]:
    """How far a training came, how far it is to go (None if its config does not say), and in what unit."""
    loop = run.config.get('train_cfg') or {}
    unit = 'iterations' if loop.get('max_iters') else 'epochs'
    prefix, key = ('iter', 'iter') if unit == 'iterations' else ('epoch', 'epoch')
    saved = [int(path.stem.split('_')[1]) for path in run.checkpoints if path.stem.startswith(prefix)]
    if run.log.saved and run.log.saved[1] == unit:
        saved.append(run.log.saved[0])
    last = run.training[-1] if run.training else {}
    logged = last.get(key, 0)
    if unit == 'epochs' and run.log.epoch_length and 'iter' in last:
        logged = last['iter'] // run.log.epoch_length  # the line has the number of the epoch that it is in
    return max([logged, *saved]), loop.get('max_iters') or loop.get('max_epochs'), unit


def judge(run: RunFolder) -> Verdict:
    """Judge a training by its log, the monitor's warnings and its checkpoints."""
    done, goal, unit = training_length(run)
    how_far = f'{done} of {goal or "?"} {unit}'
    diverged = _diverged(run)
    if diverged:
        return Verdict('diverged', f'{diverged}, after {how_far}. Lower the learning rate, or see its log.')
    std, collapsed = _end(run, 'feature_std'), _collapsed(run)
    if collapsed:
        return Verdict('collapsed', f'{collapsed}; {how_far}. Such weights are of no use; lower the learning rate.')
    spread = (
        '' if std is None else f' Features spread well so far as is known: feature_std is {std:.2f} (1 is healthy).'
    )
    if not run.training and not done:
        return Verdict('unfinished', 'Nothing is logged yet, and there is no checkpoint.')
    if goal is None or done < goal:
        return Verdict('unfinished', f'{how_far} are done, or it still runs.{spread}')
    if std is None:
        return Verdict('finished', f'{how_far}, and every logged loss is finite.')
    return Verdict('healthy', f'{how_far}, every logged loss is finite, and feature_std is {std:.2f} (1 is healthy).')


def _end(run: RunFolder, key: str) -> float | None:
    """Mean of a logged value over the last lines that have it."""
    values = [line[key] for line in run.training if key in line][-_LAST:]
    return sum(values) / len(values) if values else None


def _diverged(run: RunFolder) -> str:
    for line in run.training:
        if not math.isfinite(line['loss']):
            return f'The loss is {line["loss"]} at iteration {line.get("iter", "?")}'
    reports = sorted((run.path / 'nonfinite').glob('*.json'))
    return f'A value was not finite: {reports[-1]} has what reproduces it' if reports else ''


def _collapsed(run: RunFolder) -> str:
    std = _end(run, 'feature_std')
    if std is not None and std < COLLAPSED:
        return f'feature_std is {std:.3f} at the end (1 is healthy, below {COLLAPSED} images look alike to it)'
    warnings = (run.results.get('monitor') or {}).get('warnings') or []
    last = max((line['step'] for line in run.monitor), default=0)
    if warnings and warnings[-1]['epoch'] >= last:
        return f'The monitor warns at epoch {warnings[-1]["epoch"]}: {warnings[-1]["text"]}'
    return ''
