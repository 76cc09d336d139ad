"""Scores of several widths in data samples, as :class:`us3l_mm.evaluation.WidthAccuracy` reads them."""

from collections.abc import Sequence

from mmpretrain.structures import DataSample
from torch import Tensor


def add_width_scores(
    data_samples: list[DataSample] | None, scores: Tensor, widths: Sequence[float]
) -> list[DataSample]:
    """Set ``width_scores`` and ``widths`` on data samples, new ones if there are none.

    Args:
        data_samples (list[DataSample], optional): One for each image.
        scores (Tensor): Shape (N, W, K).
        widths (Sequence[float]): W widths.
    """
    data_samples = data_samples or [DataSample() for _ in scores]
    for sample, score in zip(data_samples, scores):
        sample.set_field(score, 'width_scores')
        sample.set_field(tuple(widths), 'widths', dtype=tuple)
    return data_samples
