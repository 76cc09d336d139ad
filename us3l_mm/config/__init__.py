"""Read configs with the options of a command line, and look things up in them."""

from us3l_mm.registry import find_class

from .checkpoint_config import backbone_of_checkpoint, describe_backbone, trained_side
from .find import constructor_parameters, find_datasets, find_dicts, is_detector, names_scope
from .input_size import input_size
from .load import load_config, read_config
from .own_data import OwnData
from .require_data import find_missing, require_data
from .set_data import move_data, set_classes
from .set_labels import check_coco, number_folders
from .set_tta import set_tta
from .set_width import fit_width, set_width

__all__ = [
    'OwnData',
    'backbone_of_checkpoint',
    'check_coco',
    'constructor_parameters',
    'describe_backbone',
    'find_class',
    'find_datasets',
    'find_dicts',
    'find_missing',
    'fit_width',
    'input_size',
    'is_detector',
    'load_config',
    'move_data',
    'names_scope',
    'number_folders',
    'read_config',
    'require_data',
    'set_classes',
    'set_tta',
    'set_width',
    'trained_side',
]
