"""What was measured of the temporal consistency of runs: as a file, as means, in words."""

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from us3l_mm.models import US3L

from .temporal_consistency import temporal_consistency
from .width_embeddings import Guided, loss_of

FILE = Path('insight', 'temporal_consistency.json')  # in a work dir
TITLE = 'Temporal consistency: how much targets and gradients change between two moments'
LOSSES = dict(mse='MSE', nce='InfoNCE')
OWN = ('own', 'own_relative', 'own_moving')  # of the loss that a width is trained by
NUMBERS = (
    *('target', 'shared', 'spread', 'nce', 'mse_relative', 'nce_relative', 'mse_moving', 'nce_moving'),
    *OWN,
)


def describe(model: US3L) -> str:
    """Say how a model guides its widths, such as 'MSE base, InfoNCE distillation, target online / momentum'."""
    base, distill = (LOSSES[loss_of(model, distill)[0]] for distill in (False, True))
    distillation = f'{distill} distillation' if model.distill_loss is not None else 'no distillation'
    head = ', head' if model.distill_predictor is not None else ''
    return f'{base} base, {distillation}{head}, target {model.base_target} / {model.sub_target}'


def compare(before: Mapping[float, Guided], after: Mapping[float, Guided]) -> list[dict[str, Any]]:
    """Compare the guidance of each width at two moments.

    Returns:
        list[dict]: For each width ``width``, ``loss``, the numbers of :func:`temporal_consistency`, and ``own``,
        ``own_relative`` and ``own_moving``, which are those of the loss that the width is trained by.
    """
    rows = []
    for width, old in before.items():
        found = temporal_consistency(old.pairs, after[width].pairs, old.temperature)
        own = [found['target' if old.loss == 'mse' else 'nce']]
        own += [found[f'{old.loss}_{kind}'] for kind in ('relative', 'moving')]
        rows.append(dict(width=width, loss=old.loss, **found, **dict(zip(OWN, own))))
    return rows


def mean_rows(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average the rows of several iterations, by width, from the widest.

    Args:
        points (Sequence[Mapping[str, Any]]): Each with ``rows`` as :func:`compare` returns them.
    """
    by_width: dict[float, list] = {}
    for row in (row for point in points for row in point['rows']):
        by_width.setdefault(row['width'], []).append(row)
    return [_average(rows) for _, rows in sorted(by_width.items(), reverse=True)]


def _average(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    means = np.mean([[row[name] for name in NUMBERS] for row in rows], axis=0).tolist()
    return dict(width=rows[0]['width'], loss=rows[0]['loss'], **dict(zip(NUMBERS, means)))


def group_runs(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average runs of one name, which differ by their seeds, over the iterations that all runs have.

    Args:
        runs (Sequence[Mapping[str, Any]]): Each with ``name``, ``what`` and ``points``, which have ``iteration`` and
            ``rows``.

    Returns:
        list[dict]: For each name ``name``, ``what``, the number of ``runs``, and ``rows`` by width, from the widest:
        means over iterations and runs, and as ``std`` the standard deviations over runs, empty for one run. For the
        narrowest width ``iterations``, and ``own`` at each.

    Raises:
        ValueError: If runs of one name train differently, or they have no iteration in common.
    """
    shared = set.intersection(*({point['iteration'] for point in run['points']} for run in runs))
    if not shared:
        raise ValueError('the runs were measured at no iteration in common: train them with the same interval')
    by_name: dict[str, list] = {}
    for run in runs:
        by_name.setdefault(run['name'], []).append(run)
    return [_group(name, same, shared) for name, same in by_name.items()]


def _group(name: str, runs: Sequence[Mapping[str, Any]], iterations: set) -> dict[str, Any]:
    kinds = sorted({run['what'] for run in runs})
    if len(kinds) > 1:
        raise ValueError(f'runs named {name} train differently: {"; ".join(kinds)}; give them different names')
    points = [[point for point in run['points'] if point['iteration'] in iterations] for run in runs]
    rows = []
    for each in zip(*map(mean_rows, points), strict=True):
        std = {key: float(np.std([row[key] for row in each], ddof=1)) for key in NUMBERS if len(each) > 1}
        rows.append(dict(_average(each), std=std))
    narrowest = [[min(point['rows'], key=itemgetter('width')) for point in of_run] for of_run in points]
    own = np.mean([[row['own'] for row in of_run] for of_run in narrowest], axis=0)
    times = [point['iteration'] for point in points[0]]
    return dict(name=name, what=kinds[0], runs=len(runs), rows=rows, iterations=times, own=own.tolist())


def says(groups: Sequence[Mapping[str, Any]]) -> str:
    """Put the order of the groups of :func:`group_runs` at their narrowest width into words."""
    last = [(group['name'], group['rows'][-1]) for group in groups]
    texts = []
    for what, key in (('its targets', 'target'), ('the gradient of its loss', 'own')):
        order = sorted(last, key=lambda item: item[1][key])
        values = ', '.join(f'{name} {row[key]:.3f} ({LOSSES[row["loss"]]})' for name, row in order)
        texts.append(f'{what}: {values}')
    return f'Change at the narrowest width, from the least, in lengths of a target: {"; ".join(texts)}.'


def report(runs: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Put runs into the form that a report reads: ``title``, ``says``, ``command``, and ``data`` with runs and groups.

    Args:
        runs (Sequence[Mapping[str, Any]]): As for :func:`group_runs`.
        command (str): What makes the picture of them.
    """
    groups = group_runs(runs)
    return dict(title=TITLE, says=says(groups), command=command, data=dict(groups=groups, runs=list(runs)))


def read_run(work_dir: Path) -> dict[str, Any]:
    """Read what :class:`TemporalConsistencyHook` wrote to a work dir.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If the file is not from that hook.
    """
    path = work_dir / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'no {path}; train with the hook: --cfg-options default_hooks.temporal.type=us3l_mm.TemporalConsistencyHook'
        )
    try:
        (run,) = json.loads(path.read_text(encoding='utf-8'))['data']['runs']
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} does not hold one run as us3l_mm.TemporalConsistencyHook writes it') from error
    return run
