"""Write what a probe found: table, JSON, CSV, and accuracy over MACs."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from us3l_mm.utils.tables import image_text, markdown_table

from .cost_report import report_files
from .curves import Curve, Panel, plot_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METRICS = {
    'top1': 'top1 (%)',
    'top5': 'top5 (%)',
    'knn20': '20-NN (%)',
    'knn200': '200-NN (%)',
}


def _columns(rows: Sequence[dict]) -> dict[str, str]:
    """Titles of the metrics of which a row has a number, by key."""
    others = {key: f'{key} (%)' for row in rows for key in row if key.startswith('top')}
    return {
        key: title
        for key, title in {**_METRICS, **others, **_METRICS}.items()
        if any(row.get(key) is not None for row in rows)
    }


def _entries(rows: Sequence[dict]) -> list[str]:
    """Entries of few labels, such as ``'1%'``."""
    return list(dict.fromkeys(entry for row in rows for entry in row.get('few', {})))


def _few_title(entry: str) -> str:
    return f'{entry} of labels (%)' if entry.endswith('%') else f'{entry} labels a class (%)'


def probe_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format a Markdown table with a line for each width.

    Args:
        rows (Sequence[dict[str, Any]]): See :func:`us3l_mm.evaluation.probe.fast_rows`.
    """
    columns, entries = _columns(rows), _entries(rows)
    header = ['width', 'image', 'params (M)', 'MACs (G)', *columns.values(), *map(_few_title, entries)]
    lines = []
    for row in rows:
        line = [f'{row["width"]:g}', image_text(row['size']), f'{row["params"] / 1e6:.2f}', f'{row["macs"] / 1e9:.3f}']
        line += [None if row.get(key) is None else f'{row[key]:.2f}' for key in columns]
        line += [f'{row["few"][entry]["mean"]:.2f} ± {row["few"][entry]["std"]:.2f}' for entry in entries]
        lines.append(line)
    return markdown_table(header, lines)


def probe_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows as CSV; few labels have a mean, a standard deviation and a number of seeds each."""
    flat = []
    for row in rows:
        line = {key: value for key, value in row.items() if key not in ('size', 'few')}
        line['size'] = image_text(row['size'])
        for entry in _entries(rows):
            line.update({f'few {entry} {key}': row['few'][entry][key] for key in ('mean', 'std', 'seeds')})
        flat.append(line)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for line in flat for key in line)), lineterminator='\n')
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def probe_figure(rows: Sequence[dict[str, Any]], title: str) -> 'Figure':
    """Plot top-1 accuracies over MACs.

    Args:
        rows (Sequence[dict[str, Any]]): See :func:`probe_table`.
        title (str): Heading.
    """
    macs, notes = [row['macs'] / 1e6 for row in rows], [f'{row["width"]:g}' for row in rows]
    names = {key: text for key, text in _columns(rows).items() if key == 'top1' or key.startswith('knn')}
    curves = [
        Curve(macs, [float('nan') if row.get(key) is None else row[key] for row in rows], name.removesuffix(' (%)'))
        for key, name in names.items()
    ]
    for entry in _entries(rows):
        few = [row['few'][entry] for row in rows]
        spread = {'yerr': [each['std'] for each in few], 'fmt': 'o--'}
        name = f'{_few_title(entry).removesuffix(" (%)")}, {few[0]["seeds"]} seeds'
        curves.append(Curve(macs, [each['mean'] for each in few], name, options=spread))
    curves[0].notes = notes
    size = image_text(rows[0]['size'])
    beside = {'loc': 'center left', 'bbox_to_anchor': (1, 0.5)}
    panel = Panel(curves, f'MACs of an image of {size} pixels (M)', 'accuracy (%)', title, legend=beside)
    return plot_panels([panel], width=7.5)


def probe_files(out: Path, result: dict[str, Any], title: str) -> dict[Path, Callable[[Path], object]]:
    """OUT.json, OUT.md, OUT.csv and OUT.png, as :func:`~us3l_mm.utils.files.write_files` takes them.

    Args:
        out (Path): Path without a suffix.
        result (dict[str, Any]): What the JSON holds; ``widths`` are the rows of :func:`probe_table`.
        title (str): Heading of the plot.
    """
    rows = result['widths']
    text = probe_csv(rows)
    files = report_files(out, probe_table(rows), result, probe_figure(rows, title))
    return {**files, out.with_name(f'{out.name}.csv'): lambda path: path.write_text(text, encoding='utf-8')}
