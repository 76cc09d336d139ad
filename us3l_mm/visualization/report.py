"""Write a page that compares widths, with a table and plots of accuracy over cost."""

import html
import io
import json
from pathlib import Path

from us3l_mm.utils.files import write_text
from us3l_mm.utils.tables import MISSING, image_text, markdown_table

from .curves import Curve, Panel, plot_panels

COLUMNS = (
    ('width', 'Width', '{:g}'.format),
    ('size', 'Image', image_text),
    ('params', 'Parameters', '{:,}'.format),
    ('macs', 'MACs', '{:,}'.format),
    ('probe', 'Probe, all labels (%)', '{:.1f}'.format),
    ('probe_random', 'the same, random net', '{:.1f}'.format),
    ('few', 'Probe, 10 labels a class (%)', '{:.1f}'.format),
    ('few_random', 'the same, random net', '{:.1f}'.format),
    ('box_ap', 'Box AP, fine-tuned (%)', '{:.1f}'.format),
)
CURVES = {
    'Probe, all labels (%)': ('probe', 'probe_random'),
    'Probe, 10 labels a class (%)': ('few', 'few_random'),
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin-bottom: 1.5rem; }}
th, td {{ padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }}
th {{ font-weight: 600; vertical-align: bottom; }}
svg {{ max-width: 100%; height: auto; }}
.note {{ color: #666; font-size: .9rem; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{table}
{figure}
<p class="note">{note}</p>
</body></html>
"""


def _cells(row: dict) -> list[str]:
    return [MISSING if row.get(key) is None else text(row[key]) for key, _, text in COLUMNS]


def text_table(rows: list[dict]) -> str:
    """Format rows as a Markdown table; a missing number becomes a dash.

    Args:
        rows (list[dict]): One dict for each width, with keys of :data:`COLUMNS`.
    """
    return markdown_table([title for _, title, _ in COLUMNS], map(_cells, rows))


def _html_table(rows: list[dict]) -> str:
    def line(tag: str, cells: list[str]) -> str:
        return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'

    return (
        '<table>'
        + line('th', [title for _, title, _ in COLUMNS])
        + ''.join(line('td', _cells(r)) for r in rows)
        + '</table>'
    )


def _curves(rows: list[dict]) -> str:
    """Plot accuracy over MACs as SVG."""
    macs, widths = [row['macs'] / 1e6 for row in rows], [f'{row["width"]:g}' for row in rows]
    random = {'fmt': 's--', 'color': 'grey'}
    panels = [
        Panel(
            [
                Curve(macs, [row[ours] for row in rows], 'US3L, pretrained once', widths),
                Curve(macs, [row[untrained] for row in rows], 'random initialisation', options=random),
            ],
            'MACs per image (M)',
            title,
            legend={'loc': 'center right'},
        )
        for title, (ours, untrained) in CURVES.items()
    ]
    out = io.StringIO()
    plot_panels(panels, width=5).savefig(out, format='svg')
    text = out.getvalue()
    return text[text.index('<svg') :]


def write_report(report: dict, out_dir: str, title: str, summary: str, note: str = '') -> None:
    """Write ``report.json`` and ``report.html``.

    Args:
        report (dict): Numbers; ``report['widths']`` are the rows, see :func:`text_table`.
        out_dir (str): Folder, made if it is missing.
        title (str): Heading of the page.
        summary (str): Paragraph below the heading.
        note (str): Small print at the end. Defaults to none.

    Raises:
        ValueError: If there are no rows.
    """
    rows = report['widths']
    if not rows:
        raise ValueError('a report needs at least one width, got none')
    page = PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        note=html.escape(note),
        table=_html_table(rows),
        figure=_curves(rows),
    )
    write_text(Path(out_dir, 'report.json'), json.dumps(report, indent=2) + '\n')
    write_text(Path(out_dir, 'report.html'), page)
