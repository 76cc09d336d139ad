"""AP by class stands under the right name, whatever the order of names and of categories."""

import itertools
import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from us3l_mm.evaluation.custom_coco_metric import CustomCOCOMetric

CATEGORIES = {9: 'rust', 2: 'leaf', 5: 'sky'}
NAMES = tuple(CATEGORIES.values())
FOUND = dict(rust=2, leaf=1, sky=0)  # of the two boxes of each class


@pytest.fixture
def ann_file(tmp_path):
    boxes = [
        dict(id=10 * category + number, image_id=number, category_id=category, bbox=[10 * number + category, 4, 8, 9])
        for category in CATEGORIES
        for number in range(2)
    ]
    content = dict(
        images=[dict(id=number, file_name=f'{number}.png', width=64, height=32) for number in range(2)],
        categories=[dict(id=category, name=name) for category, name in CATEGORIES.items()],
        annotations=boxes,
    )
    (tmp_path / 'boxes.json').write_text(json.dumps(content))
    return str(tmp_path / 'boxes.json')


@pytest.mark.parametrize('classes', list(itertools.permutations(NAMES)))
def test_results_by_class_are_those_of_the_class(ann_file, classes):
    metric = CustomCOCOMetric(ann_file=ann_file, classwise=True)
    metric.dataset_meta = dict(classes=classes)
    for number in range(2):
        found = [name for name in NAMES if number < FOUND[name]]
        left = [10 * number + {name: key for key, name in CATEGORIES.items()}[name] for name in found]
        boxes = torch.tensor([[x, 4.0, x + 8, 13] for x in left]).reshape(-1, 4)
        found = InstanceData(
            bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.tensor([classes.index(name) for name in found])
        )
        metric.process({}, [dict(img_id=number, ori_shape=(32, 64), pred_instances=found)])
    got = metric.evaluate(2)
    # COCO's precision at 101 recalls: one of two boxes found is precision 1 up to recall 0.5.
    expected = dict(rust=1.0, leaf=51 / 101, sky=0.0)
    for name, precision in expected.items():
        assert got[f'coco/{name}_precision'] == pytest.approx(precision, abs=6e-4)
    assert got['coco/bbox_mAP'] == pytest.approx(np.mean(list(expected.values())), abs=1e-3)


def test_unknown_class_is_an_error(ann_file):
    metric = CustomCOCOMetric(ann_file=ann_file)
    metric.dataset_meta = dict(classes=('rust', 'laef'))
    with pytest.raises(ValueError, match=r"unknown classes 'laef' \(did you mean 'leaf'\?\)"):
        metric.compute_metrics([({}, {'labels': np.array([0])})])
