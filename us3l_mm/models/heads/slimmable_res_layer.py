"""Last stage of a ResNet at a width, as the shared head of mmdet's C4 detectors."""

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from us3l_mm.models.backbones import SlimmableResNet
from us3l_mm.registry import MODELS
from us3l_mm.slim import check_choice, check_count, check_flag, check_width


@MODELS.register_module()
class SlimmableResLayer(BaseModule):
    """``layer4`` of :class:`SlimmableResNet` at a fixed width, then one more batch norm.

    It replaces mmdet's ``ResLayer`` and loads the checkpoint of the backbone by the same rules, see
    :class:`SlimmableBackboneMixin`. The batch norm, at first the identity, is that of MoCo's detectors: their
    features were not trained to have the scale that a head expects.

    Args:
        depth (int): 50, 101 or 152; also 18 and 34, with heads to match.
        width (float): Width multiplier, in (0, 1].
        init_cfg (dict, optional): As for :class:`SlimmableResNet`; ``set_width`` copies that of the backbone.
        norm_eval (bool): Whether batch norms of ``layer4`` train by their stored statistics. Defaults to False.
        stage (int): 3, as the last stage is called in mmdet.
        stride (int): 2.
        dilation (int): 1.
        **kwargs: As for :class:`SlimmableResNet`.

    Raises:
        TypeError: If an option is of another type.
        ValueError: If ``stage``, ``stride`` or ``dilation`` has another value.

    Attributes:
        out_channels (int): Channels of the output.

    Source: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020, and its
    ``Res5ROIHeadsExtraNorm``.
    """

    def __init__(
        self,
        depth: int,
        width: float,
        init_cfg: dict | None = None,
        norm_eval: bool = False,
        stage: int = 3,
        stride: int = 2,
        dilation: int = 1,
        **kwargs,
    ) -> None:
        super().__init__()
        check_choice('depth', depth, tuple(SlimmableResNet.arch_settings))
        check_width(width)  # None would build a net of all widths
        for name, value, only in (('stage', stage, 3), ('stride', stride, 2), ('dilation', dilation, 1)):
            check_count(name, value, least=only, most=only)
        self.norm_eval = check_flag('norm_eval', norm_eval)
        self._resnet = dict(depth=depth, width=width, out_indices=(3,), init_cfg=init_cfg, **kwargs)
        net = SlimmableResNet(**self._resnet)
        self.layer4 = net.layer4
        self.out_channels = net.out_channels[-1]
        self.norm = nn.BatchNorm2d(self.out_channels)

    def init_weights(self) -> None:
        """Initialise a whole network, which checks and slices its checkpoint, and take its last stage."""
        net = SlimmableResNet(**self._resnet)
        net.init_weights()
        self.layer4.load_state_dict(net.layer4.state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> 'SlimmableResLayer':
        """Set the mode; with ``norm_eval`` the batch norms of ``layer4`` stay in evaluation mode."""
        super().train(mode)
        for layer in self.layer4.modules():
            if mode and self.norm_eval and isinstance(layer, _BatchNorm):
                layer.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map features of regions (R, C, H, W) to (R, ``out_channels``, H / 2, W / 2)."""
        return self.norm(self.layer4(x))
