"""One page on what ran, how it went and what was measured."""

from .write import write_report

__all__ = ['write_report']
