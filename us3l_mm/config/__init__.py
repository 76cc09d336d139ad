"""Read configs with the options of a command line, and look things up in them."""

from .find import constructor_parameters, find_class, find_dicts, names_scope
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
    'names_scope',
    'read_config',
    'set_classes',
    'set_width',
]
