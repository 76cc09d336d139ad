"""Sections on what was measured after training: accuracy, detection, transfer, cost, insight."""

from collections.abc import Sequence
from typing import Any

from us3l_mm.evaluation import RunFolder, Series
from us3l_mm.utils.tables import image_text

from ..curves import Curve, Panel
from . import page
from .drawing import Drawings

_PICTURES = 4  # drawn images of a run
_LINES = 12  # of the table of costs, beyond which widths are added up
_COUNTS = ('forward', 'backward', 'images', 'macs', 'seconds')


def accuracy(series: Sequence[Series], drawings: Drawings) -> str:
    """Accuracy over MACs, or over the width where MACs are unknown, with a table of each group of series."""
    parts, tables = [], []
    for i, group in enumerate(dict.fromkeys(one.group for one in series)):
        chosen = [one for one in series if one.group == group]
        title, _, where = group.partition(': ')
        by_macs = [one for one in chosen if all(macs is not None for _, macs, *_ in one.points)]
        by_width = [] if len(by_macs) == len(chosen) else chosen
        for name, some, axis in (('macs', by_macs, 'MACs per image (M)'), ('width', by_width, 'width')):
            if some:
                panel = Panel(_accuracy_curves(some, name == 'macs'), axis, 'accuracy (%)', title)
                note = 'Numbers at the points are widths.' if name == 'macs' else ''
                parts.append(drawings.draw(f'accuracy-{i}-{name}', panel, f'{where}. {note}'.strip(' .') + '.'))
        tables.append(_accuracy_table(chosen, group))
    return page.figures(parts) + ''.join(tables)


def _accuracy_curves(series: Sequence[Series], by_macs: bool) -> list[Curve]:
    """Solid lines of what was measured, dashed ones of what was published; a case has one colour."""
    curves, colours = [], {}
    for one in series:
        points = sorted(one.points)
        x = [macs / 1e6 if by_macs else width for width, macs, *_ in points]
        case = one.label.split(', published')[0]
        owner = next((label for label in colours if label.startswith(case)), one.label)
        options = {'color': colours.setdefault(owner, f'C{len(colours) % 10}'), 'fmt': 's--' if one.published else 'o-'}
        if any(spread for *_, spread in points):
            options['yerr'] = [spread or 0 for *_, spread in points]
        notes = [f'{width:g}' for width, *_ in points] if by_macs and not curves else []
        curves.append(Curve(x, [value for _, _, value, _ in points], one.label, notes, options))
    return curves


def _accuracy_table(series: Sequence[Series], caption: str) -> str:
    widths = sorted({width for one in series for width, *_ in one.points}, reverse=True)
    lines = []
    for one in series:
        found = {width: (value, spread) for width, _, value, spread in one.points}
        cells = [found.get(width) for width in widths]
        lines.append(
            [one.label, *(cell and f'{cell[0]:.1f}{f" ± {cell[1]:.1f}" if cell[1] else ""}' for cell in cells)]
        )
    macs: dict[float, set] = {width: set() for width in widths}
    for one in series:
        for width, count, *_ in one.points:
            macs[width] |= {count} - {None}
    if all(len(counts) == 1 for counts in macs.values()):
        lines.append(['MACs (M)', *(f'{counts.pop() / 1e6:,.2f}' for counts in macs.values())])
    return page.table(['', *(f'{width:g}' for width in widths)], lines, f'{caption}; by width')


def detection(runs: Sequence[RunFolder], drawings: Drawings) -> str:
    """Average precision of detectors by width, and images with their boxes."""
    rows, parts = [], []
    for run in runs:
        if run.kind == 'detector' and run.metrics:
            rows.append((run.name, _width_text(run.config.model.backbone.get('width')), None, run.metrics))
        if isinstance(run.results.get('table'), list):
            rows += [(run.name, _width_text(row['width']), row['macs'], row['metrics']) for row in run.results['table']]
            parts.append(_ap_curve(run, drawings))
    measured = [name for *_, found in rows for name, value in found.items() if 'AP' in name and value >= 0]
    names = list(dict.fromkeys(measured))  # mmdet's -1 stands for what could not be measured
    if names:
        lines = [
            [run, width, macs and f'{macs / 1e9:,.3f}', *(_percent(found.get(name)) for name in names)]
            for run, width, macs, found in rows
        ]
        header = ['', 'width', 'MACs (G)', *(name.split('/')[-1] for name in names)]
        keep = [i for i in range(len(header)) if i != 2 or any(line[2] for line in lines)]
        lines = [[line[i] for i in keep] for line in lines]
        parts.insert(0, page.table([header[i] for i in keep], lines, 'Average precision (%) by width'))
    drawn = []
    for run in runs:
        if run.kind == 'detector':
            chosen = run.drawn[:: max(1, len(run.drawn) // _PICTURES)][:_PICTURES]
            drawn += [page.figure(page.picture(path, f'{run.name}: {path.stem}'), run.name) for path in chosen]
    if drawn:
        parts.append(
            page.paragraph('Images of the last validation: boxes of the data on the left, found ones on the right.')
        )
    return ''.join(parts) + page.figures(drawn)


def _ap_curve(run: RunFolder, drawings: Drawings) -> str:
    rows = sorted(run.results['table'], key=lambda row: row['macs'])
    names = [name for name in rows[0]['metrics'] if name.endswith('mAP')]
    curves = [
        Curve([row['macs'] / 1e9 for row in rows], [100 * row['metrics'][name] for row in rows], name.split('/')[-1])
        for name in names
    ]
    sizes = {image_text(row['size']) for row in rows if row.get('size')}
    caption = f'Images of {", ".join(sorted(sizes))} pixels.' if sizes else ''
    panel = Panel(curves, 'MACs per image (G)', 'AP (%)', f'{run.name}: AP over MACs')
    return page.figures([drawings.draw(f'{run.name}-ap', panel, caption)]) if curves else ''


def _width_text(width: Any) -> str:
    parts = width if isinstance(width, dict) else {}
    return ', '.join(f'{key}={value:g}' for key, value in parts.items()) or ('all' if width is None else f'{width:g}')


def _percent(value: float | None) -> str | None:
    return None if value is None or value < 0 else f'{100 * value:.1f}'


def transfer(runs: Sequence[RunFolder]) -> str:
    """Accuracies on other data sets by width; for those that are missing, why."""
    parts = []
    for run in runs:
        told = run.results.get('transfer')
        if told:
            done = [row for row in told['rows'] if row.get('widths')]
            widths = sorted({width for row in done for width in row['widths']}, key=float, reverse=True)
            lines = [[row['dataset'], *(_one(row['widths'].get(width)) for width in widths)] for row in done]
            caption = f'{run.name}: accuracy (%) on other data, by width; {told.get("protocol", "")}'
            parts.append(page.table(['', *widths], lines, caption.rstrip('; ')) if done else '')
            parts.append(
                page.facts({row['dataset']: row['status'] for row in told['rows'] if row not in done}, 'stacked')
            )
    return ''.join(parts)


def _one(value: float | None) -> str | None:
    return None if value is None else f'{value:.1f}'


def cost(runs: Sequence[RunFolder]) -> str:
    """Passes, MACs and time by stage and width, and the whole in T, the cost of training the full width alone."""
    parts = []
    for run in runs:
        told = run.results.get('cost')
        if not told:
            continue
        whole = [
            f'{told[key]:.2f} T {text}'
            for key, text in (('passes_T', 'by passes, as the paper counts'), ('wall_clock_T', 'by the clock'))
            if told.get(key) is not None
        ]
        seconds = f'{told["seconds"]:,.0f} s for ' if told.get('seconds') is not None else ''
        text = f'{run.name}: {seconds}{told.get("iterations") or 0:,} iterations. '
        text += (
            f'Cost of the training: {", ".join(whole)}; T is the cost of training the full width alone.'
            if whole
            else ''
        )
        grid = _cost_table(told['rows'])
        if len(told['rows']) > _LINES:
            summed = _cost_table(_over_widths(told['rows']))
            grid = summed + page.fold(f'by width: {len(told["rows"])} rows', grid)
        parts.append(page.paragraph(text) + grid)
    return ''.join(parts)


def _cost_table(rows: Sequence[dict]) -> str:
    lines = [
        [row['stage'], row['width'], row['role'], *(_count(row[key]) for key in _COUNTS[:3])]
        + [_count(None if row['macs'] is None else row['macs'] / 1e9), _count(row['seconds'])]
        for row in rows
    ]
    return page.table(['stage', 'width', 'role', 'forward', 'backward', 'images', 'MACs (G)', 'seconds'], lines)


def _over_widths(rows: Sequence[dict]) -> list[dict]:
    """Add up the rows of each stage and role; a sum with an unknown part is unknown."""
    sums: dict[tuple, dict] = {}
    for row in rows:
        known = sums.setdefault((row['stage'], row['role']), {**row, 'width': 'all', **dict.fromkeys(_COUNTS, 0)})
        for key in _COUNTS:
            known[key] = None if known[key] is None or row[key] is None else known[key] + row[key]
    return list(sums.values())


def _count(value: float | None) -> str | None:
    return None if value is None else f'{value:,.0f}' if value == int(value) or value >= 100 else f'{value:,.2f}'


def insight(runs: Sequence[RunFolder]) -> str:
    """Pictures of ``insight/``, with what their tools say of them."""
    return page.figures(
        [
            page.figure(
                page.picture(path, told.get('title', path.stem)),
                told.get('title', path.stem),
                told.get('says', ''),
                told.get('command', ''),
                page.is_wide(path),
            )
            for run in runs
            for path, told in run.insights
        ]
    )
