"""Tables as Markdown."""

import pytest

from us3l_mm.utils.tables import markdown_table


def cells(line):
    """Cells of a line, as a reader of Markdown splits it."""
    assert line.startswith('| ') and line.endswith(' |')
    return line[2:-2].split(' | ')


@pytest.mark.parametrize(
    'rows', [[], [['a', 1]], [('x', None), (None, 0.25)], [[f'{i}-{j}' for j in range(2)] for i in range(7)]]
)
def test_cells_stand_where_they_were_given(rows):
    header, rule, *lines = markdown_table(['first', 'the second'], iter(rows)).split('\n')
    assert cells(header) == ['first', 'the second']
    assert rule.count('---') == 2 and set(rule) == {'|', '-'} and rule.count('|') == 3
    assert [cells(line) for line in lines] == [['–' if cell is None else f'{cell}' for cell in row] for row in rows]


def test_zero_false_and_empty_text_are_no_missing_cells():
    line = markdown_table(['a', 'b', 'c'], [[0, False, '']]).split('\n')[2]
    assert cells(line) == ['0', 'False', '']


@pytest.mark.parametrize('row', [[], ['a'], ['a', 'b', 'c']])
def test_row_of_another_length_is_refused(row):
    with pytest.raises(ValueError, match=rf'needs 2 cells, got \[2, {len(row)}\]'):
        markdown_table(['a', 'b'], [['x', 'y'], row])
