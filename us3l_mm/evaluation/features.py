"""Extract features at several widths."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from us3l_mm.slim import check_widths, use_width


@torch.no_grad()
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
    backbone.eval()
    features: dict[float, list[Tensor]] = {width: [] for width in check_widths('widths', widths)}
    labels = []
    for batch in batches:
        data = preprocessor(batch, False)
        labels.extend(sample.gt_label for sample in data['data_samples'])
        for width, found in features.items():
            with use_width(backbone, width):
                found.append(backbone(data['inputs'])[-1].mean(dim=(2, 3)).cpu())
    return {width: torch.cat(found) for width, found in features.items()}, torch.cat(labels).cpu()
