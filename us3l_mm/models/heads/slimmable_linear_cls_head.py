"""Linear classifier behind a backbone of any width."""

import copy

from mmpretrain.models import LinearClsHead

from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableLinear, check_count


@MODELS.register_module()
class SlimmableLinearClsHead(LinearClsHead):
    """mmpretrain's LinearClsHead that reads as many features as the backbone has.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the backbone at width 1.0.
        **kwargs: As for :class:`mmpretrain.models.LinearClsHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, **kwargs) -> None:
        check_count('num_classes', num_classes)
        check_count('in_channels', in_channels)
        super().__init__(num_classes, in_channels, **kwargs)
        self.fc = SlimmableLinear(in_channels, num_classes)

    def dense(self, in_channels: int) -> LinearClsHead:
        """Convert to mmpretrain's head for ``in_channels`` features, which shares no memory."""
        plain = copy.deepcopy(self, {id(self.fc): self.fc.dense(in_channels)})
        plain.__class__ = LinearClsHead
        plain.in_channels = in_channels
        return plain
