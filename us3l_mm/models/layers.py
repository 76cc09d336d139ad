"""Register the slimmable layers, for ``conv_cfg`` and ``norm_cfg`` of any backbone."""

from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, SwitchableBatchNorm2d

MODELS.register_module(module=SlimmableConv2d)
MODELS.register_module(module=SlimmableBatchNorm2d)
MODELS.register_module(module=SwitchableBatchNorm2d)
