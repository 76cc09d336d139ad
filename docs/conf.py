"""Sphinx configuration."""

project = 'us3l_mm'
extensions = ['myst_parser']
myst_heading_anchors = 3  # links such as data.md#how-fast
exclude_patterns = ['_build']
html_theme = 'furo'
