"""From a classifier of several widths to the stock one of a single width."""

import copy

from mmpretrain.models import ImageClassifier
from torch import nn

from us3l_mm.models.heads import SlimmableLinearClsHead
from us3l_mm.slim import Width


def dense_classifier(model: nn.Module, head: nn.Module, width: Width, with_statistics: bool = True) -> ImageClassifier:
    """Mmpretrain's classifier with the backbone of ``model`` at ``width``, its neck and a head of its own memory.

    Args:
        model (nn.Module): Model with a slimmable ``backbone``, a ``neck`` and a ``data_preprocessor``.
        head (nn.Module): Head to take, whose linear layer is cut to the features where it is slimmable.
        width (Width): Width multiplier, in (0, 1], or those of parts of the backbone.
        with_statistics (bool): Whether batch norms take the calibrated statistics of that width.
    """
    backbone = model.backbone.dense(width, with_statistics)
    if isinstance(head, SlimmableLinearClsHead):
        head = head.dense(backbone.out_channels[-1])
    neck = None if isinstance(model.neck, nn.Identity) else copy.deepcopy(model.neck)
    return ImageClassifier(
        backbone=backbone, neck=neck, head=copy.deepcopy(head), data_preprocessor=copy.deepcopy(model.data_preprocessor)
    ).train(model.training)
