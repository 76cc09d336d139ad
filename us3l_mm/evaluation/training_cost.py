"""What a training costs, in passes, images, MACs and seconds.

T is the cost of training the full width alone for as many epochs.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from us3l_mm.deploy.costs import count, width_complexity
from us3l_mm.slim import SlimmableLayer, width_label
from us3l_mm.utils.tables import markdown_table

Row = tuple[int, float, str]  # stage, width, role
_FORWARD, _BACKWARD, _IMAGES, _SECONDS = range(4)


class TrainingCost:
    """Counts by stage of dynamic sampling, width and role.

    Args:
        saved (dict, optional): :meth:`saved` of an earlier part of the training. Defaults to None: nothing yet.

    Attributes:
        state (dict): ``rows``, which has the forward passes, the backward passes, the images and the seconds of each
            :data:`Row`; ``iterations`` and their ``seconds``; ``images``, of the widest widths alone; and
            ``full_iterations`` with ``full_seconds``, of iterations that train nothing but the full width.
    """

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        empty = dict(iterations=0, seconds=0.0, images=0, full_iterations=0, full_seconds=0.0, rows=[])
        state = saved or empty
        self.state: dict[str, Any] = {**state, 'rows': {tuple(row): counts for row, counts in state['rows']}}

    def saved(self) -> dict[str, Any]:
        """What JSON can hold of ``state``: ``rows`` as pairs of a row and its counts."""
        return {**self.state, 'rows': list(self.state['rows'].items())}

    def start_iteration(self, stage: int, full: float) -> None:
        """Begin an iteration of a stage, where ``full`` is the full width."""
        self._stage, self._full, self._widths = stage, full, []

    def add(self, role: str, width: float, images: int, group: float | None = None) -> Row:
        """Count a forward pass, of a student also a backward pass; return where, by ``group`` in place of the width."""
        row = (self._stage, width if group is None else group, role)
        counts = self.state['rows'].setdefault(row, [0, 0, 0, 0.0])
        counts[_FORWARD] += 1
        counts[_IMAGES] += images
        if role == 'student':
            counts[_BACKWARD] += 1
            self._widths.append(width)
            self.state['images'] += images * (width == self._widths[0])
        return row

    def add_seconds(self, row: Row, seconds: float) -> None:
        """Add time that went to a row."""
        self.state['rows'][row][_SECONDS] += seconds

    def end_iteration(self, seconds: float) -> None:
        """End an iteration, which took so long with all that is in none of its rows."""
        self.state['iterations'] += 1
        self.state['seconds'] += seconds
        if set(self._widths) == {self._full}:
            self.state['full_iterations'] += 1
            self.state['full_seconds'] += seconds


def forward_macs(part: nn.Module, width: float, size: tuple[int, int]) -> int:
    """Count the MACs of a forward pass of one image; arguments as for :func:`width_complexity`, for any network."""
    if any(isinstance(layer, SlimmableLayer) for layer in part.modules()):
        return width_complexity(part, width, size)['macs']
    image = next(part.parameters()).new_zeros(1, 3, *size)
    return count(copy.deepcopy(part).eval(), image)['macs']


def cost_report(state: dict[str, Any], macs: Callable[[float], int | None]) -> dict[str, Any]:
    """Make the content of ``cost.json``.

    Args:
        state (dict): That of :class:`TrainingCost`.
        macs (Callable): Gives the MACs of a forward pass of one image at a width, None where they are not known.

    Returns:
        dict[str, Any]: ``rows`` with counts, ``macs`` (a backward pass as two forward passes) and ``seconds``;
        ``iterations`` and their ``seconds``; the cost in T as ``passes_T`` and ``wall_clock_T``; and
        ``full_width_iteration_s``, the time of an iteration of the full width alone. None is for what is not known.
    """
    rows, trained = [], 0
    for (stage, width, role), counts in sorted(
        state['rows'].items(), key=lambda item: (item[0][0], item[0][2], -item[0][1])
    ):
        forward, backward, images, seconds = counts
        trained += images * (role == 'student')
        one = macs(width)
        total = None if one is None else one * images * (3 if role == 'student' else 1)
        done = dict(forward=forward, backward=backward, images=images, macs=total, seconds=seconds)
        rows.append(dict(stage=stage, width=width, role=role, **done))
    iterations, full = state['iterations'], None
    if state['full_iterations']:
        full = state['full_seconds'] / state['full_iterations']
    return dict(
        rows=rows,
        iterations=iterations,
        seconds=state['seconds'],
        passes_T=trained / state['images'] if state['images'] else None,
        wall_clock_T=state['seconds'] / (iterations * full) if full else None,
        full_width_iteration_s=full,
    )


def cost_text(report: dict[str, Any]) -> str:
    """Say the cost in T in a line."""
    passes, clock = (None if report[key] is None else f'{report[key]:.3g} T' for key in ('passes_T', 'wall_clock_T'))
    return (
        f'{passes or "unknown"} by passes, {clock or "unknown"} by the clock (T: the full width alone), '
        f'{report["iterations"]} iterations in {report["seconds"]:.0f} s'
    )


def cost_table(report: dict[str, Any]) -> str:
    """Format the sums of each stage and role as a Markdown table."""
    lines = []
    for stage, role in dict.fromkeys((row['stage'], row['role']) for row in report['rows']):
        rows = [row for row in report['rows'] if (row['stage'], row['role']) == (stage, role)]
        sums = {key: sum(row[key] for row in rows) for key in ('forward', 'backward', 'images', 'seconds')}
        macs = None if any(row['macs'] is None for row in rows) else f'{sum(row["macs"] for row in rows) / 1e12:.4g}'
        widths = sorted({row['width'] for row in rows}, reverse=True)
        span = ' to '.join(width_label(width) for width in dict.fromkeys((widths[0], widths[-1])))
        counts = [sums['forward'], sums['backward'], sums['images']]
        lines.append([stage, role, span, *counts, macs, f'{sums["seconds"]:.1f}'])
    return markdown_table(['stage', 'role', 'widths', 'forward', 'backward', 'images', 'MACs (T)', 'seconds'], lines)
