"""Table and picture of the temporal consistency of runs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from us3l_mm.evaluation.temporal_record import LOSSES
from us3l_mm.utils.tables import markdown_table

from .curves import Curve, Panel, plot_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = dict(
    target='targets',
    own='gradient',
    own_relative='relative',
    own_moving='student moving',
    mse_relative='relative, MSE',
    nce_relative='relative, InfoNCE',
    shared='shared',
    spread='spread',
)


def consistency_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """Format the groups of :func:`us3l_mm.evaluation.temporal_record.group_runs` as a Markdown table."""
    lines = [
        [
            group['name'],
            f'{row["width"]:g}',
            LOSSES[row['loss']],
            *(f'{row[key]:.3f}' + (f' ± {row["std"][key]:.3f}' if row['std'] else '') for key in COLUMNS),
        ]
        for group in groups
        for row in group['rows']
    ]
    notes = [
        f'{group["name"]}: {group["what"]}; runs: {group["runs"]}, measurements of each: {len(group["iterations"])}'
        for group in groups
    ]
    return '\n'.join([markdown_table(['run', 'width', 'loss', *COLUMNS.values()], lines), '', *notes])


def consistency_figure(groups: Sequence[Mapping[str, Any]], title: str) -> 'Figure':
    """Plot what the same groups say of the loss that each width is trained by: by width, and over iterations.

    Circles and lines are of runs whose narrowest width has MSE, squares and dashes of those with InfoNCE.
    """
    panels = [
        Panel([_by_width(group, key, i) for i, group in enumerate(groups)], 'width', label)
        for key, label in (('target', 'change of the targets'), ('own_relative', 'relative change of the gradient'))
    ]
    over_time = len(groups[0]['iterations']) > 1
    if over_time:
        curves = [
            # Zeros, as of a teacher in the first iteration, have no place on the scale.
            Curve(
                group['iterations'],
                [value or math.nan for value in group['own']],
                options=dict(color=f'C{i % 10}', fmt=_style(group)[1:]),
            )
            for i, group in enumerate(groups)
        ]
        panels.append(Panel(curves, 'iteration', f'change of the gradient, width {groups[0]["rows"][-1]["width"]:g}'))
    for group, curve in zip(groups, panels[-1].curves):
        curve.label = group['name']
    panels[-1].legend = dict(loc='center left', bbox_to_anchor=(1, 0.5))
    figure = plot_panels(panels, title)
    if over_time:
        figure.axes[-1].set_yscale('log')
    return figure


def _style(group: Mapping[str, Any]) -> str:
    return 'o-' if group['rows'][-1]['loss'] == 'mse' else 's--'


def _by_width(group: Mapping[str, Any], key: str, index: int) -> Curve:
    """Curve of a number over the width, with bars of one standard deviation over runs."""
    rows = group['rows']
    options = dict(color=f'C{index % 10}', fmt=_style(group), yerr=[row['std'].get(key, 0.0) for row in rows])
    return Curve([row['width'] for row in rows], [row[key] for row in rows], options=options)
