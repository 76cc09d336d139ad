"""Supervised classification at several widths.

Shapes: N images, K classes, W widths.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from us3l_mm.models.multi_width import MicroBatch, MultiWidthTraining
from us3l_mm.registry import MODELS
from us3l_mm.slim import Width, check_flag, check_part, check_widths, use_width

from .dense_classifier import dense_classifier
from .width_scores import add_width_scores


@MODELS.register_module()
class SlimmableClassifier(MultiWidthTraining, ImageClassifier):
    """mmpretrain's ImageClassifier with a slimmable backbone, trained at several widths each iteration.

    The sampler makes the method: a fixed list of widths with switchable batch norm is S-Net, the sandwich
    rule with slimmable batch norm US-Net.

    Args:
        backbone (dict): Slimmable backbone.
        head (dict): Head that reads features of any width, such as :class:`SlimmableLinearClsHead`.
        eval_widths (Sequence[float]): Widths that predictions are made at.
        neck (dict): Pooling. Defaults to global average pooling.
        sampler (dict, optional): Arguments of :class:`us3l_mm.slim.WidthSampler`, or of another ``type``.
        distill (bool): Whether narrower networks learn the softmax of the widest instead of the labels. Defaults to
            False.
        group_reg (dict, optional): As for :class:`US3L`.
        update (str): As for :class:`US3L`. Defaults to ``'accumulate'``.
        by_epoch (bool): As for :class:`US3L`.
        speed (str): As for :class:`US3L`.
        **kwargs: As for :class:`mmpretrain.models.ImageClassifier`.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If one is out of its range.

    Source: Yu et al., "Slimmable Neural Networks", ICLR 2019; Yu and Huang, "Universally Slimmable Networks
    and Improved Training Techniques", ICCV 2019 (in-place distillation).
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        eval_widths: Sequence[float],
        neck: dict = dict(type='mmpretrain.GlobalAveragePooling'),  # noqa: B006  not changed
        sampler: dict | None = None,
        distill: bool = False,
        group_reg: dict | None = None,
        update: str = 'accumulate',
        by_epoch: bool = True,
        speed: str = 'eager',
        **kwargs,
    ) -> None:
        for name, part in (('backbone', backbone), ('neck', neck), ('head', head)):
            check_part(name, part)
        super().__init__(backbone, neck, head, **kwargs)
        self.eval_widths = check_widths('eval_widths', eval_widths)
        self.distill = check_flag('distill', distill)
        self.set_training(sampler, group_reg, update, by_epoch, speed=speed)

    def loss(self, inputs: Tensor, data_samples: list[DataSample], soft_target: Tensor | None = None) -> dict[str, Any]:
        """Loss at the current width.

        Args:
            inputs (Tensor): Images of shape (N, 3, H, W).
            data_samples (list[DataSample]): With ``gt_label``.
            soft_target (Tensor, optional): Probabilities of shape (N, K) to learn in place of the labels.

        Returns:
            dict: ``loss``, a scalar, and ``outputs``, probabilities of shape (N, K) without gradient.
        """
        features = self.extract_feat(inputs)
        logits = self.head(features)
        if soft_target is None:
            loss = self.head.loss(features, data_samples)['loss']
        else:
            loss = F.cross_entropy(logits, soft_target)
        return dict(loss=loss, outputs=logits.detach().softmax(dim=1))

    def loss_arguments(self, batch: MicroBatch, width: float) -> dict:
        """Pass the softmax of the widest width, if it is to be learnt."""
        return dict(soft_target=batch.widest if self.distill else None)

    def dense(self, width: Width, with_statistics: bool = True) -> ImageClassifier:
        """Convert to mmpretrain's classifier of one width; arguments as for :func:`dense_classifier`."""
        return dense_classifier(self, self.head, width, with_statistics)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample] | None = None, **kwargs) -> list[DataSample]:
        """Predict data samples with ``width_scores`` of shape (W, K), one row for each of ``eval_widths``."""
        scores = []
        for width in self.eval_widths:
            with use_width(self.backbone, width):
                scores.append(self.head(self.extract_feat(inputs)).softmax(dim=1))
        return add_width_scores(data_samples, torch.stack(scores, dim=1), self.eval_widths)
