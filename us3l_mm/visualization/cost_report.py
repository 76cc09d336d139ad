"""Tables and plots of the costs of widths."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from us3l_mm.utils.tables import MISSING, image_text, markdown_table

from .curves import Curve, Panel, plot_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEGA, MEBI = 1e6, 2**20
# Key, title, size of the unit, format.
COLUMNS = (
    ('params', 'params (M)', MEGA, '{:.2f}'),
    ('macs', 'MACs (M)', MEGA, '{:.1f}'),
    ('activation_bytes', 'activations (MiB)', MEBI, '{:.2f}'),
    ('latency_ms', 'latency (ms)', 1, '{:.2f}'),
    ('accuracy', 'accuracy (%)', 1, '{:.2f}'),
)
_SCALES = {key: (title, unit) for key, title, unit, _ in COLUMNS}


def cost_table(rows: Sequence[dict]) -> str:
    """Format costs as a Markdown table, without the columns that no row has.

    Args:
        rows (Sequence[dict]): One for each width: ``width``, ``size`` and any keys of :data:`COLUMNS`; with
            ``latency_ms`` also ``latency_p10_ms`` and ``latency_p90_ms``; with a budget ``fits``, whether the width is
            within it.
    """
    columns = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    header = ['width', 'image']
    for key, title, _, _ in columns:
        header += [title, 'p10-p90 (ms)'] if key == 'latency_ms' else [title]
    header += ['within the budget'] if 'fits' in rows[0] else []
    return markdown_table(header, (_cells(row, columns) for row in rows))


def _cells(row: dict, columns: Sequence[tuple]) -> list[str]:
    cells = [f'{row["width"]:g}', image_text(row['size'])]
    for key, _, unit, form in columns:
        cells.append(MISSING if row.get(key) is None else form.format(row[key] / unit))
        if key == 'latency_ms':
            cells.append(f'{row["latency_p10_ms"]:.2f}-{row["latency_p90_ms"]:.2f}')
    if 'fits' in row:
        cells.append('yes' if row['fits'] else 'no')
    return cells


def _values(rows: Sequence[dict], key: str) -> list[float]:
    return [row[key] / _SCALES[key][1] if row.get(key) is not None else float('nan') for row in rows]


def _spread(rows: Sequence[dict]) -> list[list[float]]:
    """Error bars of the latency, from the 10th to the 90th percentile."""
    return [
        [row['latency_ms'] - row['latency_p10_ms'] for row in rows],
        [row['latency_p90_ms'] - row['latency_ms'] for row in rows],
    ]


def cost_figure(rows: Sequence[dict], title: str) -> 'Figure':
    """Plot every cost over the width.

    Args:
        rows (Sequence[dict]): See :func:`cost_table`.
        title (str): Line above the panels.
    """
    widths, panels = [row['width'] for row in rows], []
    for key in (key for key, *_ in COLUMNS if key in rows[0]):
        measured = key == 'latency_ms'
        curve = Curve(widths, _values(rows, key), options={'yerr': _spread(rows)} if measured else {})
        heading = 'median, 10th to 90th percentile' if measured else ''
        panels.append(Panel([curve], 'width', _SCALES[key][0], heading))
    figure = plot_panels(panels, title, width=3.6, height=3.6)
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    return figure


def choice_figure(rows: Sequence[dict], budgets: dict[str, float], chosen: dict | None, title: str) -> 'Figure':
    """Plot the accuracy of each width, or the width itself if no accuracy is known, over each budgeted cost.

    Args:
        rows (Sequence[dict]): See :func:`cost_table`.
        budgets (dict[str, float]): Largest allowed cost, by key.
        chosen (dict, optional): The row that was chosen.
        title (str): Line above the panels.
    """
    known = any(row.get('accuracy') is not None for row in rows)
    heights = _values(rows, 'accuracy') if known else [row['width'] for row in rows]
    panels = []
    for key, budget in budgets.items():
        costs, (label, unit) = _values(rows, key), _SCALES[key]
        bars = {'xerr': _spread(rows)} if key == 'latency_ms' else {}
        curves = [Curve(costs, heights, 'candidates', [f'{row["width"]:g}' for row in rows], bars)]
        if chosen is not None:
            i = rows.index(chosen)
            mark = {'fmt': 'o', 'color': 'tab:green', 'markersize': 12}
            curves.append(Curve([costs[i]], [heights[i]], f'chosen: {chosen["width"]:g}', options=mark))
        panels.append(Panel(curves, label, _SCALES['accuracy'][0] if known else 'width', budget=budget / unit))
    return plot_panels(panels, title, width=max(5.5 / len(panels), 4.5))


def report_files(out: Path, table: str, report: dict, figure: 'Figure') -> dict[Path, Callable[[Path], object]]:
    """OUT.md, OUT.json and OUT.png, as :func:`~us3l_mm.utils.files.write_files` takes them."""
    return {
        out.with_name(f'{out.name}.md'): lambda path: path.write_text(f'{table}\n', encoding='utf-8'),
        out.with_name(f'{out.name}.json'): lambda path: path.write_text(json.dumps(report, indent=2) + '\n'),
        out.with_name(f'{out.name}.png'): lambda path: figure.savefig(path, format='png', dpi=120),
    }
