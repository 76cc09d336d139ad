"""Plot curves over widths or costs in panels beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Curve:
    """A line of points.

    Attributes:
        x (Sequence[float]): Horizontal values.
        y (Sequence[float]): Vertical values; NaN leaves a gap.
        label (str, optional): Entry in the legend. Defaults to None: no entry.
        notes (Sequence[str]): Text above each point. Defaults to none.
        options (Mapping[str, Any]): Arguments of :meth:`matplotlib.axes.Axes.errorbar`, such as ``fmt``, ``xerr`` and
            ``yerr``. Defaults to none.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str | None = None
    notes: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Panel:
    """Curves that share their axes.

    Attributes:
        curves (Sequence[Curve]): Curves.
        xlabel (str): Horizontal axis, with its unit.
        ylabel (str): Vertical axis, with its unit.
        title (str): Heading. Defaults to none.
        budget (float, optional): Horizontal value of a vertical line. Defaults to None: no line.
        legend (Mapping[str, Any]): Arguments of :meth:`matplotlib.axes.Axes.legend`. Defaults to none.
    """

    curves: Sequence[Curve]
    xlabel: str
    ylabel: str
    title: str = ''
    budget: float | None = None
    legend: Mapping[str, Any] = field(default_factory=dict)


def plot_panels(panels: Sequence[Panel], title: str = '', width: float = 4.5, height: float = 4.0) -> 'Figure':
    """Plot panels beside each other.

    Args:
        panels (Sequence[Panel]): Panels, from the left.
        title (str): Heading above them. Defaults to none.
        width (float): Width of a panel in inches. Defaults to 4.5.
        height (float): Height in inches. Defaults to 4.0.
    """
    from matplotlib.figure import Figure  # here: nothing else needs it

    figure = Figure(figsize=(width * len(panels), height), layout='constrained')
    if title:
        figure.suptitle(title, fontsize='medium')
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        if panel.budget is not None:
            axes.axvline(panel.budget, color='tab:red', linestyle='--', label='budget')
        for curve in panel.curves:
            axes.errorbar(curve.x, curve.y, label=curve.label, **{'fmt': 'o-', 'capsize': 3, **curve.options})
            for note, point in zip(curve.notes, zip(curve.x, curve.y)):
                axes.annotate(note, point, textcoords='offset points', xytext=(0, 7), ha='center', fontsize=8)
        axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
        axes.set_title(panel.title, fontsize='small')
        axes.margins(x=0.08, y=0.12)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(**{'fontsize': 'small', **panel.legend})
    return figure
