"""From a command line to a config."""

from .find import constructor_parameters, find_class, find_dicts
from .load import load_config, read_config
from .set_data import move_data, set_classes
from .set_width import fit_width, set_width

__all__ = [
    'constructor_parameters',
    'find_class',
    'find_dicts',
    'fit_width',
    'load_config',
    'move_data',
    'read_config',
    'set_classes',
    'set_width',
]
