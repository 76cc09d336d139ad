"""Pictures and pages."""

from .report import text_table, write_report

__all__ = ['text_table', 'write_report']
