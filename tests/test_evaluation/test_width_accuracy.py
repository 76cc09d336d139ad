"""Accuracy by width, against counting."""

import pytest
import torch
from mmpretrain.structures import DataSample

from us3l_mm.evaluation import WidthAccuracy


def samples(scores, labels, widths):
    found = []
    for score, label in zip(scores, labels):
        sample = DataSample().set_gt_label(int(label))
        sample.set_field(score, 'width_scores')
        sample.set_field(widths, 'widths', dtype=tuple)
        found.append(sample.to_dict())
    return found


def test_top1_and_top2_equal_counting():
    widths = (1.0, 0.5)
    scores, labels = torch.rand(40, 2, 5), torch.randint(5, (40,))
    metric = WidthAccuracy(topk=(1, 2))
    for start in (0, 25):  # two batches
        chunk = slice(start, start + 25)
        metric.process({}, samples(scores[chunk], labels[chunk], widths))
    got = metric.evaluate(40)
    for index, width in enumerate(widths):
        for k in (1, 2):
            right = sum(
                int(label) in row[index].argsort(descending=True)[:k].tolist() for row, label in zip(scores, labels)
            )
            assert got[f'accuracy/top{k}_w{width:g}'] == pytest.approx(100 * right / 40)


def test_image_without_label_is_refused():
    sample = DataSample()
    sample.set_field(torch.rand(1, 5), 'width_scores')
    sample.set_field((1.0,), 'widths', dtype=tuple)
    with pytest.raises(ValueError, match='has no label'):
        WidthAccuracy().process({}, [sample.to_dict()])
