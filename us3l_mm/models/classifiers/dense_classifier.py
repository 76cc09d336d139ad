"""Convert a classifier of several widths to the stock classifier of one width."""

import copy

from mmengine.model import BaseModel
from mmpretrain.models import ImageClassifier
from torch import nn

from us3l_mm.models.heads import SlimmableLinearClsHead
from us3l_mm.slim import Width, width_label


def dense_classifier(model: BaseModel, head: nn.Module, width: Width, with_statistics: bool = True) -> ImageClassifier:
    """Build mmpretrain's classifier with the dense backbone and the neck of ``model`` and with ``head``, all copied.

    Args:
        model (BaseModel): Model with a slimmable ``backbone``, a ``neck`` and a ``data_preprocessor``.
        head (nn.Module): Head to copy; a slimmable one is cut to the features.
        width (Width): Width multiplier, in (0, 1], or those of parts of the backbone.
        with_statistics (bool): Whether batch norms take the calibrated statistics of that width.

    Raises:
        RuntimeError: If ``with_statistics`` and the width is not calibrated.
        ValueError: If the head reads another number of channels.
    """
    backbone = model.backbone.dense(width, with_statistics)
    if isinstance(head, SlimmableLinearClsHead):
        head = head.dense(backbone.out_channels[-1])
    elif getattr(head, 'in_channels', None) != backbone.out_channels[-1]:
        label = width_label(width)
        raise ValueError(
            f'model.head was trained at full width and cannot read the backbone at width {label}; train at that '
            f"width (`us3l train CONFIG --width {label}`), or with 'us3l_mm.SlimmableLinearClsHead'"
        )
    neck = None if isinstance(model.neck, nn.Identity) else copy.deepcopy(model.neck)
    return ImageClassifier(
        backbone=backbone, neck=neck, head=copy.deepcopy(head), data_preprocessor=copy.deepcopy(model.data_preprocessor)
    ).train(model.training)
