"""What was measured of the temporal consistency of runs: as a file, as means, in words."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from us3l_mm.models import US3L

from .temporal_consistency import temporal_consistency
from .width_embeddings import Guided, loss_of

FILE = Path('insight', 'temporal_consistency.json')  # in a work dir
TITLE = 'Temporal consistency: what changes from one iteration to the next'
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
    return [
        dict(
            width=width, loss=rows[0]['loss'], **{name: float(np.mean([row[name] for row in rows])) for name in NUMBERS}
        )
        for width, rows in sorted(by_width.items(), reverse=True)
    ]


def says(runs: Sequence[Mapping[str, Any]]) -> str:
    """Say in words what the numbers of runs say of their narrowest width."""
    text = []
    for run in runs:
        row = mean_rows(run['points'])[-1]
        text.append(
            f'{run["name"]}, width {row["width"]:g}: targets move by {row["target"]:.3f} of their length, the gradient '
            f'of {LOSSES[row["loss"]]} by {row["own"]:.3f}, {row["own_relative"]:.2f} of what the student can follow.'
        )
    return ' '.join(text)


def report(runs: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Put runs into the form that a report reads: ``title``, ``says``, ``command``, and ``data`` with ``runs``.

    Args:
        runs (Sequence[Mapping[str, Any]]): Each with ``name``, ``what``, and ``points``: ``iteration`` and ``rows``.
        command (str): What makes the picture of them.
    """
    means = [dict(run, means=mean_rows(run['points'])) for run in runs]
    return dict(title=TITLE, says=says(runs), command=command, data=dict(runs=means))


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
