"""Sphinx configuration."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]  # the package of this checkout, and pages.py

project = 'us3l_mm'
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'pages']
myst_heading_anchors = 3  # links such as data.md#how-fast
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = 'us3l_mm'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_copyright = False
html_math_renderer = 'mathml'  # of pages.py
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_default_options = dict(members=True)
