"""The table of versions: what it counts, what it says, and that the page is what the record says."""

import json

import pytest

from builders import load_script

REPORT = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="no"/></testcase>
<testcase classname="b" name="broken"><error message="no"/></testcase>
<testcase classname="b" name="left"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope='module')
def matrix():
    return load_script('check_matrix')


def test_page_is_up_to_date(matrix):
    assert matrix.PAGE.read_text() == matrix.page(json.loads(matrix.RECORD.read_text()))


def test_errors_count_as_failures(matrix, tmp_path):
    (tmp_path / 'tests.xml').write_text(REPORT)
    found = matrix.counts(tmp_path / 'tests.xml')
    assert found == dict(passed=1, skipped=1, failed=['a::bad', 'b::broken'])
    assert matrix.ending(found) == '**2 failed**, 1 passed, 1 skipped'


def test_cells_that_did_not_run_say_so(matrix):
    assert matrix.page({}).count('| not run |') == len(matrix.CELLS)
    text = matrix.page({'torch26': dict(date='2026-01-02', commit='abc', error='ERROR: no a | b (exit status 1)')})
    assert '| ERROR: no a / b (exit status 1) | 2026-01-02, abc |' in text


def test_failing_command_gives_the_line_that_says_why(matrix, tmp_path):
    with pytest.raises(matrix.Failed, match=r'^ERROR: no such wheel \(exit status 3\)$'):
        matrix.run(tmp_path / 'log', 'sh', '-c', 'echo ERROR: no such wheel; echo; echo bye >&2; exit 3')


def test_forks_replace_all_of_openmmlab(matrix):
    cell = matrix.CELLS['onedl']
    assert not [line for line in matrix.requirements(cell) if line.startswith(('mm', 'onedl'))]
    stock = matrix.requirements(matrix.CELLS['py312-pinned'])
    assert {matrix.name_of(line) for line in stock} >= {'mmengine', 'mmcv-lite', 'mmpretrain', 'mmdet', 'torch'}
    assert not any('#' in line for line in stock)
