"""Draws of few labels: a part of each class, the same for the same seed."""

import pytest
import torch
from mmengine.registry import DATASETS

from us3l_mm.datasets import Digits, FewLabels, draw_few, labels_of

LABELS = torch.tensor([0] * 30 + [1] * 200 + [2] * 3)[torch.randperm(233, generator=torch.Generator().manual_seed(0))]


def counts(index):
    return [int((LABELS[index] == label).sum()) for label in range(3)]


@pytest.mark.parametrize(
    ('few', 'expected'), [('10%', [3, 20, 1]), ('1%', [1, 2, 1]), ('3', [3, 3, 3]), ('1', [1, 1, 1])]
)
def test_each_class_has_its_part(few, expected):
    index = draw_few(LABELS, few, seed=0)
    assert counts(index) == expected and index.tolist() == sorted(set(index.tolist()))


def test_seeds_differ_and_repeat():
    draws = [draw_few(LABELS, '10%', seed).tolist() for seed in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


@pytest.mark.parametrize('few', ['0', '0%', '100%', '-1', '1.5', 'some', '', '%', 'nan%', None])
def test_what_is_no_draw_is_refused(few):
    with pytest.raises(ValueError, match="few labels are a share such as '1%'"):
        draw_few(LABELS, few, seed=0)


def test_more_than_a_class_has_is_refused():
    with pytest.raises(ValueError, match='4 of each class, but class 2 has 3 images'):
        draw_few(LABELS, '4', seed=0)


def test_data_set_gives_the_drawn_images_of_the_other_one():
    few = DATASETS.build(
        dict(type='us3l_mm.FewLabels', dataset=dict(type='us3l_mm.Digits', pipeline=[]), few='5', seed=2)
    )
    whole = Digits(pipeline=[])
    assert isinstance(few, FewLabels) and len(few) == 50 and few.metainfo == whole.metainfo
    index = draw_few(labels_of(whole), '5', seed=2)
    assert [few[i]['digit_idx'] for i in range(50)] == [whole[i]['digit_idx'] for i in index.tolist()]
    assert torch.equal(labels_of(few), labels_of(whole)[index])
