"""Draw plots and write reports."""

from .curves import Curve, Panel, plot_panels
from .probe_report import probe_csv, probe_figure, probe_files, probe_table
from .report import write_report

__all__ = [
    'Curve',
    'Panel',
    'plot_panels',
    'probe_csv',
    'probe_figure',
    'probe_files',
    'probe_table',
    'write_report',
]
