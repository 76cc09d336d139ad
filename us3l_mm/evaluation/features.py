"""Extract features at several widths.

Shapes: N images, C channels.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from us3l_mm.slim import check_widths, use_width

FeaturesOf = Callable[[dict], tuple[dict[float, Tensor], Tensor]]


@torch.no_grad()
def pooled_features(backbone: nn.Module, widths: Sequence[float], images: Tensor) -> dict[float, Tensor]:
    """Compute the average-pooled outputs (N, C) of the last stage for images (N, 3, H, W), by width.

    Args:
        backbone (nn.Module): Slimmable backbone, calibrated for the widths; or one of a fixed ``width``, for that one.
        widths (Sequence[float]): Widths.
        images (Tensor): Normalised images.
    """
    found = {}
    for width in widths:
        if getattr(backbone, 'width', None) is not None:
            output = backbone(images)[-1]
        else:
            with use_width(backbone, width):
                output = backbone(images)[-1]
        found[width] = output.mean(dim=(2, 3)) if output.dim() == 4 else output  # a transformer's are (N, C)
    return found


def batch_features(backbone: nn.Module, widths: Sequence[float], preprocessor: BaseDataPreprocessor) -> FeaturesOf:
    """Make the function of a batch of labelled images to its features by width and labels (N,), on the CPU."""
    backbone.eval()
    widths = check_widths('widths', widths)

    def run(batch: dict) -> tuple[dict[float, Tensor], Tensor]:
        data = preprocessor(batch, False)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']]).cpu()
        found = pooled_features(backbone, widths, data['inputs'])
        return {width: features.float().cpu() for width, features in found.items()}, labels

    return run


def extract_features(
    backbone: nn.Module, widths: Sequence[float], batches: Iterable[dict], preprocessor: BaseDataPreprocessor
) -> tuple[dict[float, Tensor], Tensor]:
    """Extract average-pooled features of the last stage, for all widths in one pass over the data.

    Args:
        backbone (nn.Module): Slimmable backbone, calibrated for the widths.
        widths (Sequence[float]): Widths.
        batches (Iterable[dict]): Batches of labelled images from a data loader.
        preprocessor (BaseDataPreprocessor): Turns them into tensors.

    Returns:
        tuple[dict[float, Tensor], Tensor]: Features (N, C) by width, and labels (N,); on the CPU.
    """
    parts = list(map(batch_features(backbone, widths, preprocessor), batches))
    features = {width: torch.cat([part[width] for part, _ in parts]) for width in parts[0][0]}
    return features, torch.cat([labels for _, labels in parts])
