"""Metrics that a run has logged."""

import json

import pytest

from us3l_mm.evaluation.logged import last_logged


def test_the_last_value_of_the_last_run_counts(tmp_path):
    for run, values in (('20260101', [0.1, 0.3]), ('20260102', [0.2])):
        (tmp_path / run / 'vis_data').mkdir(parents=True)
        lines = [json.dumps({'coco/bbox_mAP': value}) for value in values] + [json.dumps({'loss': 1.0})]
        (tmp_path / run / 'vis_data' / 'scalars.json').write_text('\n'.join(lines))
    assert last_logged(tmp_path, 'coco/bbox_mAP') == 0.2
    with pytest.raises(ValueError, match='no pascal_voc/mAP is logged in'):
        last_logged(tmp_path, 'pascal_voc/mAP')
