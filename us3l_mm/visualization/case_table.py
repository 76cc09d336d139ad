"""Results of the cases of a table, as text and as a picture; tools/run_table.py runs them."""

import json
import statistics
from pathlib import Path

from mmengine.config import Config, ConfigDict

from us3l_mm.utils.tables import MISSING, markdown_table

from .curves import Curve, Panel, plot_panels


def read_cases(table: Config, cases: dict[str, ConfigDict], out: Path) -> dict[str, dict]:
    """Read measured and published accuracies (%) by case and width; None is a published collapse.

    Args:
        table (Config): A table of configs/tables.
        cases (dict[str, ConfigDict]): Its cases to read, by name.
        out (Path): Folder of the results.
    """
    rows = {}
    for name, case in cases.items():
        folders = [out / name, *(path.parent for path in sorted((out / name).rglob('pretrain.py')))]
        found = [path for path in (folder / 'result.json' for folder in dict.fromkeys(folders)) if path.exists()]
        results = [json.loads(path.read_text()) for path in found]
        failures = [path for path in (folder / 'failed.txt' for folder in dict.fromkeys(folders)) if path.exists()]
        published = zip(table.get('published_widths', []), case.get('published', '').split())
        by_width: dict[str, list[dict]] = {}
        for result in results:
            for row in result['widths']:
                by_width.setdefault(f'{row["width"]:g}', []).append(row)
        accuracies = {width: [row['top1'] for row in found] for width, found in by_width.items()}
        rows[name] = dict(
            what=case.what,
            failed={str(path.parent.relative_to(out)): path.read_text().strip() for path in failures},
            runs=[{key: value for key, value in result.items() if key != 'widths'} for result in results],
            measured={width: statistics.fmean(values) for width, values in accuracies.items()},
            measured_std={w: statistics.stdev(values) for w, values in accuracies.items() if len(values) > 1},
            measured_seeds={width: len(values) for width, values in accuracies.items()},
            macs={width: found[0]['macs'] for width, found in by_width.items()},
            published={f'{w:g}': None if value == '-' else float(value) for w, value in published if value != '.'},
        )
    return rows


def _measured_text(row: dict, width: str) -> str:
    """Mean accuracy (%), with the standard deviation of several seeds."""
    if width not in row['measured']:
        return 'failed' if row['failed'] else MISSING
    spread = f' ± {row["measured_std"][width]:.2f}' if width in row['measured_std'] else ''
    return f'{row["measured"][width]:.2f}{spread}'


def case_table_text(table: Config, rows: dict[str, dict], dataset: str) -> str:
    """Format a Markdown table with measured and published numbers in columns of their own."""
    published = table.get('published_from')
    measured = {width for row in rows.values() for width in row['measured']}
    default = {f'{width:g}' for width in table.get('published_widths', [1.0])}
    widths = sorted(measured or default, key=float, reverse=True)
    head = ['case', 'what']
    for width in widths:
        head += [
            f'{width}: measured',
            *([f'{width}: published ({published.data}, {published.name})'] if published else []),
        ]
    lines = []
    for name, row in rows.items():
        cells = [name, row['what']]
        for width in widths:
            cells.append(_measured_text(row, width))
            if published:
                known = row['published'].get(width, MISSING)
                cells.append('collapsed' if known is None else str(known))
        lines.append(cells)
    text = [f'{table.title}. Linear accuracy (%) by width.', *_notes(rows, dataset)]
    if published:
        text.append(f'Published: {published.data}; {published.source}.')
        if published.data.lower().replace('-', '') != dataset:
            text.append('The data sets differ: compare the order of the cases, not the numbers.')
    text += ['', markdown_table(head, lines)]
    text += [f'\n{folder}: {why}' for row in rows.values() for folder, why in row['failed'].items()]
    return '\n'.join(text)


def _notes(rows: dict[str, dict], dataset: str) -> list[str]:
    """Say what was measured, for how long and how often."""
    done = sum(bool(row['runs']) for row in rows.values())
    lengths = set()
    for run in (run for row in rows.values() for run in row['runs']):
        solved = run.get('probe_epochs') is None
        lengths.add(
            f'{run["epochs"]} epochs, ' + ('heads solved' if solved else f'{run["probe_epochs"]} of linear evaluation')
        )
    seeds = {number for row in rows.values() for number in row['measured_seeds'].values()} - {1}
    text = [f'Measured: {"; ".join([dataset, *sorted(lengths)])}; {done} of {len(rows)} cases.']
    if seeds:
        text.append(f'Mean and standard deviation of {" or ".join(map(str, sorted(seeds)))} seeds.')
    return text


def plot_cases(table: Config, rows: dict[str, dict], dataset: str, path: Path) -> None:
    """Plot measured accuracy over MACs, and published accuracy over width beside it where there is any."""
    panels = [Panel(_curves(rows, 'measured'), 'MACs per image (M)', 'linear accuracy (%)', f'measured, {dataset}')]
    if 'published_from' in table:
        title = f'published, {table.published_from.data}, {table.published_from.name}'
        panels.append(Panel(_curves(rows, 'published'), 'width', 'linear accuracy (%)', title))
    for panel in panels:
        panel.legend = {'title': 'case', 'loc': 'center left', 'bbox_to_anchor': (1, 0.5)}
    plot_panels(panels, width=6, height=5 if len(panels) > 1 else 4).savefig(path, dpi=120)


def _curves(rows: dict[str, dict], key: str) -> list[Curve]:
    curves = []
    for index, (name, row) in enumerate(rows.items()):
        style: dict = {'color': f'C{index % 10}', 'fmt': ('o-', 'o--')[index // 10 % 2]}
        points = {float(width): value for width, value in row[key].items() if value is not None}
        widths = sorted(points)
        at = widths
        if key == 'measured':
            at = [row['macs'][f'{width:g}'] / 1e6 for width in widths]
            if row['measured_std']:
                style['yerr'] = [row['measured_std'].get(f'{width:g}', 0) for width in widths]
        curves.append(Curve(at, [points[width] for width in widths], name, options=style))
    return curves
