"""Linear evaluation of all widths in one pass over the data.

Shapes: N images, K classes, W widths.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from us3l_mm.registry import MODELS
from us3l_mm.slim import (
    Width,
    check_dict,
    check_part,
    check_widths,
    trace_channels,
    use_width,
    width_key,
    width_label,
)

from .dense_classifier import dense_classifier
from .width_scores import add_width_scores


@MODELS.register_module()
class LinearProbe(BaseModel):
    """Frozen slimmable backbone with one linear head per width.

    Heads share nothing, so that training them together equals training each alone. The backbone stays in
    evaluation mode and needs calibrated batch-norm statistics of each width.

    Args:
        backbone (dict): Slimmable backbone, with ``init_cfg`` to load it; or one of a fixed ``width``, the
            only one that can then be evaluated.
        widths (Sequence[float]): Widths to evaluate.
        head (dict): Head of one width without ``in_channels``, such as ``LinearClsHead``.
        neck (dict, optional): Pooling. Defaults to global average pooling; None for a backbone whose output has
            shape (N, C), such as a vision transformer's.
        data_preprocessor (dict, optional): Defaults to mmpretrain's ``ClsDataPreprocessor``.
        init_cfg (dict, optional): As for :class:`mmengine.model.BaseModel`.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If ``widths`` is empty, names one twice or one outside (0, 1], or is not the fixed width of the
            backbone.

    Source: protocol of Cao et al., CVPR 2023.
    """

    def __init__(
        self,
        backbone: dict,
        widths: Sequence[float],
        head: dict,
        neck: dict | None = dict(type='mmpretrain.GlobalAveragePooling'),  # noqa: B006  not changed
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_part('backbone', backbone)
        check_dict('head', head, 'type', 'num_classes')
        if neck is not None:
            check_part('neck', neck)
        if data_preprocessor is not None:
            check_dict('data_preprocessor', data_preprocessor)
        self.data_preprocessor = MODELS.build(
            {'type': 'mmpretrain.ClsDataPreprocessor', 'num_classes': head['num_classes'], **(data_preprocessor or {})}
        )
        self.widths = check_widths('widths', widths)
        self.backbone = MODELS.build(backbone)
        self.neck = nn.Identity() if neck is None else MODELS.build(neck)
        self.fixed_width = getattr(self.backbone, 'width', None)
        if self.fixed_width is not None and self.widths != (self.fixed_width,):
            raise ValueError(
                f'the backbone is a dense net of width {width_label(self.fixed_width)}, so widths must be '
                f'[{width_label(self.fixed_width)}], got {list(widths)}'
            )
        self.heads = nn.ModuleDict()
        for width in self.widths:
            self.heads[width_key(width)] = MODELS.build({**head, 'in_channels': self._channels(width)})

    def _channels(self, width: float) -> int:
        if self.fixed_width is not None:
            return self.backbone.out_channels[-1]
        _, outputs = trace_channels(self.backbone, width)
        return outputs[-1].size(1)

    def dense(self, width: Width, with_statistics: bool = True) -> ImageClassifier:
        """Convert to mmpretrain's classifier of one of ``widths``; arguments as for :func:`dense_classifier`.

        Raises:
            ValueError: If there is no head for that width.
        """
        key = width_key(width)
        if key not in self.heads:
            raise ValueError(f'the probe has no head for width {width_label(width)}, only for {list(self.widths)}')
        return dense_classifier(self, self.heads[key], width, with_statistics)

    def init_weights(self) -> None:
        """Initialise the heads, load the backbone and freeze it."""
        super().init_weights()
        self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> 'LinearProbe':
        """Set the mode of the heads; the backbone is always in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def _features(self, inputs: Tensor, width: float) -> tuple[Tensor, ...]:
        with nullcontext() if self.fixed_width is not None else use_width(self.backbone, width):
            return self.neck(self.backbone(inputs))

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor') -> Any:
        """Compute features by width, losses by width, or data samples with scores of every width.

        Args:
            inputs (Tensor): Images of shape (N, 3, H, W).
            data_samples (list[DataSample], optional): With ``gt_label``.
            mode (str): ``'tensor'``, ``'loss'`` or ``'predict'``.

        Returns:
            dict[float, tuple[Tensor, ...]] | dict[str, Tensor] | list[DataSample]: ``width_scores`` of shape
            (W, K) is set on the data samples.

        Raises:
            ValueError: If ``mode`` is none of these.
        """
        if mode not in ('tensor', 'loss', 'predict'):
            raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        features = {width: self._features(inputs, width) for width in self.widths}
        if mode == 'tensor':
            return features
        heads: list[tuple[float, Any]] = [(width, self.heads[width_key(width)]) for width in self.widths]
        if mode == 'loss':
            return {
                f'loss_w{width_label(width)}': head.loss(features[width], data_samples)['loss'] for width, head in heads
            }
        scores = torch.stack([head(features[width]).softmax(dim=1) for width, head in heads], dim=1)  # (N, W, K)
        return add_width_scores(data_samples, scores, self.widths)
