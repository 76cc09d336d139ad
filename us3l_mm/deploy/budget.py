"""Choose a width within a budget."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

_UNITS = {'': 1, 'k': 1e3, 'm': 1e6, 'g': 1e9}


def parse_amount(text: str) -> float:
    """Parse a number with an optional K, M or G, such as ``'500M'``, ``'1.5G'`` or ``'2e9'``.

    Raises:
        ValueError: If the text is something else, or the number is not above zero.
    """
    found = re.fullmatch(r'\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmg]?)\s*', text, re.IGNORECASE)
    try:
        amount = float(found[1]) * _UNITS[found[2].lower()]
    except (TypeError, ValueError):
        amount = 0.0
    if not 0 < amount < float('inf'):
        raise ValueError(f'give a number above zero such as 500M, 1.5G or 2e9, got {text!r}')
    return amount


def within(row: dict, budgets: dict[str, float]) -> bool:
    """Whether every cost of a row is at most its budget."""
    return all(row[key] <= budget for key, budget in budgets.items())


def widest_within(rows: Sequence[dict], budgets: dict[str, float]) -> dict | None:
    """Choose the widest row within all budgets.

    Args:
        rows (Sequence[dict]): One for each width, with ``width`` and the budgeted costs.
        budgets (dict[str, float]): Largest allowed cost, by key.

    Returns:
        dict | None: The row, or None if none is within the budgets.
    """
    return max((row for row in rows if within(row, budgets)), key=lambda row: row['width'], default=None)


def read_accuracy(path: str) -> dict[float, float]:
    """Read the top-1 accuracy (%) of each width from the ``linear_probe.json`` of ``tools/linear_probe.py``.

    Raises:
        ValueError: If the file has no such numbers.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding='utf-8'))['widths']
        return {float(row['width']): float(row['top1']) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} has no top1 accuracy by width ({type(error).__name__}: {error}); '
            'give a linear_probe.json of `us3l probe`'
        ) from error
