"""Apply the compatibility layer before any test module imports ``mmcv.ops``."""

from us3l_mm.compat import setup

setup()
