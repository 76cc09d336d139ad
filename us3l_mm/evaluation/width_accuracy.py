"""Accuracy of each width."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation import Accuracy

from us3l_mm.registry import METRICS
from us3l_mm.slim import check_count, check_list


@METRICS.register_module()
class WidthAccuracy(BaseMetric):
    """Top-k accuracy in percent of every width of a :class:`us3l_mm.models.classifiers.LinearProbe`.

    Args:
        topk (Sequence[int]): Values of k. Defaults to (1,).
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1,), **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = tuple(check_count('each k of topk', k) for k in check_list('topk', topk))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the widths, scores (W, K) and label of each image; W widths, K classes."""
        for sample in data_samples:
            if 'gt_label' not in sample:
                raise ValueError('an image has no label; a linear probe needs a labelled data set')
            self.results.append((sample['widths'], sample['width_scores'].cpu(), sample['gt_label'].cpu()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the accuracies (%), named ``top<k>_w<width>``."""
        widths = results[0][0]
        scores = torch.stack([score for _, score, _ in results])  # (N, W, K)
        labels = torch.cat([label for _, _, label in results])
        metrics = {}
        for index, width in enumerate(widths):
            accuracy = Accuracy.calculate(scores[:, index], labels, self.topk)
            for k, (value,) in zip(self.topk, accuracy):
                metrics[f'top{k}_w{width:g}'] = value.item()
        return metrics
