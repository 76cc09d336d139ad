"""tools/report.py: from folders to a page, with published rows where they are asked for."""

import pytest

from builders import us3l_lines, write_run
from us3l_mm.utils.tables import MISSING


def test_report_lies_in_the_first_folder(tmp_path, run_tool, capsys):
    for name in ('a', 'b'):
        write_run(tmp_path / name, us3l_lines(2) if name == 'a' else [])
    run_tool('report', tmp_path / 'a', tmp_path / 'b')
    page = (tmp_path / 'a' / 'report.html').read_text()
    assert '<h1>a, b</h1>' in page and '2 trainings: 2 unfinished.' in page and MISSING not in page
    assert (tmp_path / 'a' / 'report_figures' / 'a-lr.png').exists()
    assert f'Wrote {tmp_path}/a/report.html, and its figures to' in capsys.readouterr().out


@pytest.mark.slow
def test_published_rows_are_dashed_and_say_where_from(tmp_path, run_tool):
    write_run(tmp_path, [])
    out = tmp_path / 'x.html'
    run_tool('report', tmp_path, '--out', out, '--published', 'methods.r18-us3l', '--title', 'A title')
    page = out.read_text()
    assert 'A title' in page and 'R-18, US3L, published (CIFAR-100, CVPR 2023)' in page
    assert 'class="dashed"' in page and '<td>69.0</td>' in page
    assert '556.65' in page  # MACs (M); a ResNet-18 for CIFAR is known to have 0.56 G


@pytest.mark.parametrize('name', ['methods.nobody', 'nothing.r18-us3l', 'methods'])
def test_published_row_that_does_not_exist_is_refused(tmp_path, run_tool, name):
    write_run(tmp_path, [])
    with pytest.raises(SystemExit, match='no such row; rows are TABLE.CASE'):
        run_tool('report', tmp_path, '--published', name)


def test_folder_without_a_run_is_refused(tmp_path, run_tool):
    with pytest.raises(SystemExit, match='no run in or below'):
        run_tool('report', tmp_path)
