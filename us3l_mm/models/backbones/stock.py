"""Stock backbones that need little or nothing but slimmable layers to run at any width.

One file for all of them: each class only names a stock one. See :class:`SlimmableBackboneMixin` for what it
adds, and projects/backbone_survey for the backbones that need no class.
"""

from mmpretrain.models import MobileNetV3, RegNet, ResNetV1d, ResNeXt, SEResNet
from mmpretrain.models.utils import SELayer
from torch import nn

from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableConv2d, check_choice

from .base import SlimmableBackboneMixin


@MODELS.register_module()
class SlimmableResNetV1d(SlimmableBackboneMixin, ResNetV1d):
    """mmpretrain's ResNet with a stem of three convolutions and average pooling in shortcuts.

    Args:
        **kwargs: As for :class:`mmpretrain.models.ResNetV1d` and :class:`SlimmableBackboneMixin`.

    Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019.
    """


@MODELS.register_module()
class SlimmableResNeXt(SlimmableBackboneMixin, ResNeXt):
    """mmpretrain's ResNeXt: the width scales the number of groups, whose channels stay.

    Args:
        depth (int): 50, 101 or 152.
        **kwargs: As for :class:`mmpretrain.models.ResNeXt` and :class:`SlimmableBackboneMixin`; ``width_per_group`` may
            have its name in mmdet, ``base_width``.

    Source: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017.
    """

    def __init__(self, depth: int, **kwargs) -> None:
        check_choice('depth', depth, tuple(ResNeXt.arch_settings))
        if 'base_width' in kwargs:
            kwargs['width_per_group'] = kwargs.pop('base_width')
        super().__init__(depth=depth, **kwargs)


@MODELS.register_module()
class SlimmableRegNet(SlimmableBackboneMixin, RegNet):
    """mmpretrain's RegNetX: the width scales the number of groups, whose channels stay.

    Args:
        arch (str | dict): ``'regnetx_400mf'`` to ``'regnetx_12gf'``, or the numbers of another.
        **kwargs: As for :class:`mmpretrain.models.RegNet` and :class:`SlimmableBackboneMixin`.

    Source: Radosavovic et al., "Designing Network Design Spaces", CVPR 2020.
    """


class _SqueezeExciteMixin(SlimmableBackboneMixin):
    """Make squeeze-and-excitation blocks slimmable too, to which the stock backbones pass no ``conv_cfg``.

    An excitation has as many channels as it scales, since both have the same number at width 1.0.
    """

    def _adapt_layers(self) -> None:
        for block in [layer for layer in self.modules() if isinstance(layer, SELayer)]:
            block.conv1.conv = _slimmable(block.conv1.conv)
            block.conv2.conv = _slimmable(block.conv2.conv)


def _slimmable(conv: nn.Conv2d) -> SlimmableConv2d:
    """Slimmable 1 x 1 convolution with the parameters of ``conv``."""
    layer = SlimmableConv2d(conv.in_channels, conv.out_channels, kernel_size=1, device='meta')
    layer.weight, layer.bias = conv.weight, conv.bias
    return layer


@MODELS.register_module()
class SlimmableSEResNet(_SqueezeExciteMixin, SEResNet):
    """mmpretrain's ResNet with squeeze-and-excitation.

    Args:
        depth (int): 50, 101 or 152.
        **kwargs: As for :class:`mmpretrain.models.SEResNet` and :class:`SlimmableBackboneMixin`.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.
    """


@MODELS.register_module()
class SlimmableMobileNetV3(_SqueezeExciteMixin, MobileNetV3):
    """mmpretrain's MobileNetV3. Every convolution is rounded by itself, without MobileNetV2's ratio.

    Args:
        arch (str): ``'small'``, ``'small_075'``, ``'small_050'`` or ``'large'``.
        **kwargs: As for :class:`mmpretrain.models.MobileNetV3` and :class:`SlimmableBackboneMixin`.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019.
    """

    layer_defaults = {
        **SlimmableBackboneMixin.layer_defaults,
        'norm_cfg': dict(type='us3l_mm.SlimmableBatchNorm2d', eps=1e-3, momentum=0.01),  # the stock one's
    }
