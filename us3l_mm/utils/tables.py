"""Format tables as text."""

from collections.abc import Iterable, Sequence

MISSING = '–'


def image_text(size: Sequence[int]) -> str:
    """Write the height and width of an image as '64 x 48'."""
    return f'{size[0]} x {size[1]}'


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table; None becomes a dash.

    Args:
        header (Sequence[str]): Titles of the columns.
        rows (Iterable[Sequence[object]]): Cells of each row.

    Raises:
        ValueError: If a row has another number of cells.
    """
    lines = [[MISSING if cell is None else str(cell) for cell in row] for row in (header, *rows)]
    if any(len(line) != len(header) for line in lines):
        raise ValueError(f'every row needs {len(header)} cells, got {[len(line) for line in lines[1:]]}')
    text = [f'| {" | ".join(line)} |' for line in lines]
    return '\n'.join([text[0], '|---' * len(header) + '|', *text[1:]])
