"""MobileNetV2 at any width."""

from typing import Any

from mmpretrain.models import MobileNetV2

from us3l_mm.registry import MODELS

from .base import SlimmableBackboneMixin


@MODELS.register_module()
class SlimmableMobileNetV2(SlimmableBackboneMixin, MobileNetV2):
    """mmpretrain's MobileNetV2 with slimmable layers.

    The hidden channels of a block are its expansion ratio times the channels of its input at every width,
    and the last 1 x 1 convolution keeps all its outputs.

    Args:
        widen_factor (float): Channels at width 1.0, against those of the paper. Defaults to 1.0.
        width (float, optional): Fixed width; see :class:`SlimmableBackboneMixin`. Defaults to None.
        **kwargs: As for :class:`mmpretrain.models.MobileNetV2`.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
    """

    arch_settings: list[list[int]]
    conv1: Any  # mmcv's ConvModule, which holds the convolution
    conv2: Any

    def _adapt_layers(self) -> None:
        for index, (expansion, *_) in enumerate(self.arch_settings, start=1):
            for block in getattr(self, f'layer{index}'):
                block.conv[0].conv.ratio = expansion  # no effect on a depthwise one
        self.conv2.conv.slim_out = False


@MODELS.register_module()
class SlimmableMobileNetV2_CIFAR(SlimmableMobileNetV2):
    """:class:`SlimmableMobileNetV2` for small images: the stem and the 24-channel stage keep the resolution.

    Args:
        **kwargs: As for :class:`SlimmableMobileNetV2`.
    """

    arch_settings = [
        [expansion, channels, blocks, 1 if channels == 24 else stride]
        for expansion, channels, blocks, stride in MobileNetV2.arch_settings
    ]

    def _adapt_layers(self) -> None:
        super()._adapt_layers()
        self.conv1.stride = self.conv1.conv.stride = (1, 1)
