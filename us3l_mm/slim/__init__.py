"""Slimmable layers and networks, in torch alone."""

from .alignment import is_aligned, output_tensors, outputs_close
from .batchnorm import SlimmableBatchNorm2d, UncalibratedError
from .calibrate import batch_statistics, calibrate_bn, calibrated_widths
from .channels import slim_channels
from .dense import dense_layers, to_dense
from .layers import SlimmableConv2d, SlimmableLayer, SlimmableLinear
from .options import (
    check_choice,
    check_count,
    check_dict,
    check_flag,
    check_list,
    check_number,
    check_part,
    check_range,
    check_size,
)
from .plain_layers import PrefixConv2d, PrefixLinear
from .sampler import WidthSampler
from .scope import meta_copy, switch_layers, trace_channels, use_width
from .switchable import SwitchableBatchNorm2d
from .width import (
    Width,
    check_single_width,
    check_width,
    check_widths,
    parse_key,
    parse_single_width,
    parse_width,
    width_key,
    width_label,
)

__all__ = [
    'PrefixConv2d',
    'PrefixLinear',
    'SlimmableBatchNorm2d',
    'SlimmableConv2d',
    'SlimmableLayer',
    'SlimmableLinear',
    'SwitchableBatchNorm2d',
    'UncalibratedError',
    'Width',
    'WidthSampler',
    'batch_statistics',
    'calibrate_bn',
    'calibrated_widths',
    'check_choice',
    'check_count',
    'check_dict',
    'check_flag',
    'check_list',
    'check_number',
    'check_part',
    'check_range',
    'check_single_width',
    'check_size',
    'check_width',
    'check_widths',
    'dense_layers',
    'is_aligned',
    'meta_copy',
    'output_tensors',
    'outputs_close',
    'parse_key',
    'parse_single_width',
    'parse_width',
    'slim_channels',
    'switch_layers',
    'to_dense',
    'trace_channels',
    'use_width',
    'width_key',
    'width_label',
]
