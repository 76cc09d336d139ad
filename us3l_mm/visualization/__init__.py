"""Draw plots and write reports."""

from .curves import Curve, Panel, plot_panels
from .report import text_table, write_report

__all__ = ['Curve', 'Panel', 'plot_panels', 'text_table', 'write_report']
