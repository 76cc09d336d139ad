"""Draw plots and write reports."""

from .curves import Curve, Panel, plot_panels
from .report import write_report

__all__ = ['Curve', 'Panel', 'plot_panels', 'write_report']
