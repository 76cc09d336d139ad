"""Tables and pictures of what widths cost."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MEGA, MEBI = 1e6, 2**20
# Key, title, unit's size, format.
COLUMNS = (
    ('params', 'params (M)', MEGA, '{:.2f}'),
    ('macs', 'MACs (M)', MEGA, '{:.1f}'),
    ('activation_bytes', 'activations (MiB)', MEBI, '{:.2f}'),
    ('latency_ms', 'latency (ms)', 1, '{:.2f}'),
    ('accuracy', 'accuracy (%)', 1, '{:.2f}'),
)
_SCALES = {key: (title, unit) for key, title, unit, _ in COLUMNS}


def cost_table(rows: Sequence[dict]) -> str:
    """Rows as a Markdown table; what no row has is left out, what one lacks stands as a dash.

    Args:
        rows (Sequence[dict]): One for each width, with ``width``, keys of :data:`COLUMNS`, ``latency_p10_ms`` and
            ``latency_p90_ms``, and ``fits``, whether it is within the budget.
    """
    columns = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    header = ['width']
    for key, title, _, _ in columns:
        header += [title, 'p10-p90 (ms)'] if key == 'latency_ms' else [title]
    header += ['within the budget'] if 'fits' in rows[0] else []
    lines = [header]
    for row in rows:
        line = [f'{row["width"]:g}']
        for key, _, unit, form in columns:
            line.append('–' if row.get(key) is None else form.format(row[key] / unit))
            if key == 'latency_ms':
                line.append(f'{row["latency_p10_ms"]:.2f}-{row["latency_p90_ms"]:.2f}')
        if 'fits' in row:
            line.append('yes' if row['fits'] else 'no')
        lines.append(line)
    text = ['| ' + ' | '.join(line) + ' |' for line in lines]
    text.insert(1, '|---' * len(header) + '|')
    return '\n'.join(text)


def _values(rows: Sequence[dict], key: str) -> list[float]:
    return [row[key] / _SCALES[key][1] if row.get(key) is not None else float('nan') for row in rows]


def _spread(rows: Sequence[dict]) -> list[list[float]]:
    """Error bars of the latency."""
    return [
        [row['latency_ms'] - row['latency_p10_ms'] for row in rows],
        [row['latency_p90_ms'] - row['latency_ms'] for row in rows],
    ]


def cost_figure(rows: Sequence[dict], title: str) -> Figure:
    """Every cost over the width.

    Args:
        rows (Sequence[dict]): See :func:`cost_table`.
        title (str): Line above the panels.
    """
    keys = [key for key, *_ in COLUMNS if key in rows[0]]
    figure = Figure(figsize=(3.6 * len(keys), 3.6), layout='constrained')
    figure.suptitle(title, fontsize='medium')
    widths = [row['width'] for row in rows]
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys):
        if key == 'latency_ms':
            axes.errorbar(widths, _values(rows, key), yerr=_spread(rows), fmt='o-', capsize=3)
            axes.set_title('median, 10th to 90th percentile', fontsize='small')
        else:
            axes.plot(widths, _values(rows, key), 'o-')
        _finish(axes, 'width', _SCALES[key][0])
        axes.set_ylim(bottom=0)
    return figure


def choice_figure(rows: Sequence[dict], budgets: dict[str, float], chosen: dict | None, title: str) -> Figure:
    """The candidates over each budgeted cost: their accuracy if it is known, else their width.

    Args:
        rows (Sequence[dict]): See :func:`cost_table`.
        budgets (dict[str, float]): Most that a cost may be, by key.
        chosen (dict, optional): The row that was chosen.
        title (str): Line above the panels.
    """
    over = 'accuracy' if any(row.get('accuracy') is not None for row in rows) else 'width'
    heights = _values(rows, over) if over == 'accuracy' else [row['width'] for row in rows]
    figure = Figure(figsize=(max(5.5, 4.5 * len(budgets)), 4), layout='constrained')
    figure.suptitle(title, fontsize='medium')
    for axes, (key, budget) in zip(figure.subplots(1, len(budgets), squeeze=False)[0], budgets.items()):
        costs, unit = _values(rows, key), _SCALES[key][1]
        axes.axvline(budget / unit, color='tab:red', linestyle='--', label='budget')
        bars = {'xerr': _spread(rows), 'capsize': 3} if key == 'latency_ms' else {}
        axes.errorbar(costs, heights, fmt='o-', label='candidates', **bars)
        for row, x, y in zip(rows, costs, heights):
            axes.annotate(
                f'{row["width"]:g}', (x, y), textcoords='offset points', xytext=(-4, 7), ha='right', fontsize=8
            )
        if chosen is not None:
            i = rows.index(chosen)
            axes.plot(costs[i], heights[i], 'o', color='tab:green', markersize=12, label=f'chosen: {chosen["width"]:g}')
        _finish(axes, _SCALES[key][0], _SCALES[over][0] if over == 'accuracy' else 'width')
        axes.legend(fontsize='small')
    return figure


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.margins(x=0.08, y=0.12)
    axes.grid(alpha=0.3)


def report_files(out: Path, table: str, report: dict, figure: Figure) -> dict[Path, Callable[[Path], object]]:
    """OUT.md, OUT.json and OUT.png, each with what writes it to a path."""
    return {
        out.with_name(f'{out.name}.md'): lambda path: path.write_text(f'{table}\n', encoding='utf-8'),
        out.with_name(f'{out.name}.json'): lambda path: path.write_text(json.dumps(report, indent=2) + '\n'),
        out.with_name(f'{out.name}.png'): lambda path: figure.savefig(path, format='png', dpi=120),
    }
