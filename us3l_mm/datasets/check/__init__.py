"""A look at data sets before a training: files, annotations, classes, and whether the splits fit together."""

from .data import annotation_findings, build_error, check_data
from .report import Finding, Split

__all__ = ['Finding', 'Split', 'annotation_findings', 'build_error', 'check_data']
