"""Sphinx configuration."""

project = 'us3l_mm'
extensions = ['myst_parser']
exclude_patterns = ['_build']
html_theme = 'furo'
