"""The report of widths."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from us3l_mm.visualization import text_table, write_report

ROWS = [
    dict(
        width=1.0,
        size=[16, 24],
        params=2000,
        macs=3_000_000,
        probe=97.8,
        probe_random=84.7,
        few=91.7,
        few_random=63.3,
        box_ap=41.25,
    ),
    dict(width=0.5, params=500, macs=900_000, probe=95.0, probe_random=80.0, few=85.0, few_random=60.0, box_ap=None),
]


def test_table_holds_every_number_and_a_dash_for_none():
    header, _, first, second = text_table(ROWS).splitlines()
    assert header.count('|') == first.count('|') == second.count('|')
    assert [cell.strip() for cell in first.split('|')[1:-1]] == [
        '1', '16 x 24', '2,000', '3,000,000', '97.8', '84.7', '91.7', '63.3', '41.2',
    ]  # fmt: skip
    assert second.rstrip(' |').endswith('–')


def test_files_are_complete_and_text_is_escaped(tmp_path):
    write_report(dict(widths=ROWS, epochs=3), str(tmp_path / 'new'), 'A < B', 'summary & more')
    assert json.loads((tmp_path / 'new/report.json').read_text()) == dict(widths=ROWS, epochs=3)
    page = (tmp_path / 'new/report.html').read_text()
    assert '<h1>A &lt; B</h1>' in page and 'summary &amp; more' in page
    figure = page[page.index('<svg') : page.index('</svg>') + 6]
    assert len(list(ElementTree.fromstring(figure).iter())) > 50
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['report.html', 'report.json']


def test_no_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match='at least one width'):
        write_report(dict(widths=[]), str(tmp_path), '', '')
