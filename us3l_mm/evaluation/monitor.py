"""Measure a network in training at several widths, on a copy of it.

Shapes: N images, C channels of the backbone, D embedding dimensions.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from mmengine.model import BaseModel, revert_sync_batchnorm
from torch import Tensor

from us3l_mm.models.algorithms import feature_std
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableLayer, calibrate_bn, use_width

from .knn import knn_accuracy
from .linear_head import fit_linear_head
from .monitor_images import MonitorImages
from .representation import alignment, effective_rank, uniformity

_K, _TEMPERATURE = 20, 0.07
_L2 = 0.01  # of the linear head, on standardised features; strong, so that few images and few iterations do


class _Copy:
    """Copy of a backbone and a neck, whose batch norms look at one process."""

    def __init__(self, model: BaseModel) -> None:
        self.backbone = revert_sync_batchnorm(copy.deepcopy(model.backbone)).eval()
        neck = getattr(model, 'neck', None)
        # A neck serves all widths, so that only the statistics of the batch are those of one.
        self.neck = None if neck is None else revert_sync_batchnorm(copy.deepcopy(neck)).train()
        self.slims = any(isinstance(layer, SlimmableLayer) for layer in self.backbone.modules())

    def at(self, width: float) -> AbstractContextManager:
        return use_width(self.backbone, width) if self.slims else nullcontext()

    def calibrate(self, widths: Sequence[float], batches: Iterable[Tensor]) -> None:
        """Measure batch-norm statistics; norms that keep running ones of each width have them."""
        if any(isinstance(layer, SlimmableBatchNorm2d) for layer in self.backbone.modules()):
            calibrate_bn(self.backbone, widths, batches)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features, (N, C), and embeddings, (N, D), of images (N, 3, H, W)."""
        outputs = self.backbone(images)
        last = outputs[-1]
        features = last.mean(dim=(2, 3)) if last.dim() == 4 else last
        embeddings = features if self.neck is None else self.neck(outputs)
        return features, embeddings[-1] if isinstance(embeddings, (list, tuple)) else embeddings


@torch.no_grad()
def measure_widths(
    model: BaseModel, widths: Sequence[float], unlabelled: MonitorImages, labelled: MonitorImages | None = None
) -> dict[float, dict[str, float]]:
    """Measure the representations of a model at several widths; the model and its batch norms stay as they are.

    Args:
        model (BaseModel): Model with a ``backbone`` and perhaps a ``neck``, on one process.
        widths (Sequence[float]): Widths; for a backbone of one width that one.
        unlabelled (MonitorImages): Training images; their first views give the batch-norm statistics.
        labelled (MonitorImages, optional): Half of these images is classified by the other half. Defaults to None.

    Returns:
        dict[float, dict[str, float]]: For each width ``feature_std``, ``rankme``, ``uniformity`` and, of two views,
        ``alignment``, of the embeddings; with labels ``knn`` and ``linear``, accuracies (%) of the backbone's features.
        A width whose features are not finite has no value.
    """
    net, preprocessor = _Copy(model), model.data_preprocessor
    net.calibrate(widths, (views[0] for views in unlabelled.views(preprocessor)))
    found = {}
    for width in widths:
        with net.at(width):
            views = [[net(view)[1] for view in pair] for pair in unlabelled.views(preprocessor)]
            labels, features = None, None
            if labelled is not None:
                features = torch.cat([net(images)[0] for images in labelled.images(preprocessor)])
                labels = labelled.labels().to(features.device)
        first, *second = (torch.cat(each).float() for each in zip(*views))
        found[width] = dict(_unlabelled(first, *second)) if first.isfinite().all() else {}
        if features is not None and features.isfinite().all():
            found[width].update(_labelled(features.float(), labels))
    return found


def _unlabelled(first: Tensor, second: Tensor | None = None) -> Iterator[tuple[str, float]]:
    yield 'feature_std', feature_std(first).item()
    if second is not None:
        yield 'alignment', alignment(first, second).item()
    yield 'uniformity', uniformity(first).item()
    yield 'rankme', effective_rank(first).item()


def _labelled(features: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracies (%) on the second half of the features (N, C), whose first half has known labels."""
    half = (len(features) + 1) // 2
    train, test = (features[:half], labels[:half]), (features[half:], labels[half:])
    head = fit_linear_head(*train, num_classes=int(labels.max()) + 1, l2=_L2)
    right = head.scores(test[0]).argmax(dim=1) == test[1]
    return dict(
        knn=knn_accuracy(*train, *test, k=min(_K, half), temperature=_TEMPERATURE),
        linear=100 * right.double().mean().item(),
    )
