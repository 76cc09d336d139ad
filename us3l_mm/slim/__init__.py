"""Networks of changeable width, in plain torch."""

from .batchnorm import SlimmableBatchNorm2d
from .calibrate import calibrate_bn
from .channels import check_width, slim_channels
from .dense import to_dense
from .layers import SlimmableConv2d, SlimmableLayer, SlimmableLinear
from .sampler import WidthSampler
from .scope import trace_channels, use_width
from .switchable import SwitchableBatchNorm2d

__all__ = [
    'SlimmableBatchNorm2d',
    'SlimmableConv2d',
    'SlimmableLayer',
    'SlimmableLinear',
    'SwitchableBatchNorm2d',
    'WidthSampler',
    'calibrate_bn',
    'check_width',
    'slim_channels',
    'to_dense',
    'trace_channels',
    'use_width',
]
