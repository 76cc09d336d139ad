"""Draw plots and write reports."""

from .case_table import case_table_text, plot_cases, read_cases
from .curves import Curve, Panel, plot_panels
from .probe_report import probe_csv, probe_figure, probe_files, probe_table
from .report import write_report

__all__ = [
    'Curve',
    'Panel',
    'case_table_text',
    'plot_cases',
    'plot_panels',
    'probe_csv',
    'probe_figure',
    'probe_files',
    'probe_table',
    'read_cases',
    'write_report',
]
