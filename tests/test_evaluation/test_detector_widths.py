"""One detector for all widths from its training to the table, through the tools."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, Runner

from us3l_mm.config import load_config, read_config
from us3l_mm.deploy.costs import detector_costs
from us3l_mm.evaluation.detector_widths import evaluate_widths, widths_table
from us3l_mm.registry import METRICS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

CONFIG = 'configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py'
WIDTHS = (1.0, 0.5)


@METRICS.register_module(force=True)
class Scores(BaseMetric):
    """What a detector said, in one number, where a box AP after two iterations would be zero."""

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            self.results.append(sample['pred_instances']['scores'].sum().item())

    def compute_metrics(self, results):
        return {'images': len(results) / 100, 'scores': sum(results)}


@pytest.fixture(scope='module')
def trained(tmp_path_factory, run_tool):
    """Options that point the config to 8 scenes, and the calibrated checkpoint of two iterations on them."""
    folder = tmp_path_factory.mktemp('det')
    run_tool('make_digit_scenes', folder / 'scenes', '--train', 8, '--val', 4)
    options = [f'{split}_dataloader.dataset.data_root={folder}/scenes/' for split in ('train', 'test')]
    options += ['model.backbone.init_cfg=None', 'model.test_cfg.score_thr=0']
    training = ['train_cfg.max_epochs=1', 'param_scheduler.0.end=2', 'default_hooks.checkpoint.interval=1']
    run_tool('train', CONFIG, '--work-dir', folder / 'run', '--cfg-options', *options, *training)
    run_tool('calibrate_bn', CONFIG, folder / 'run/epoch_1.pth', '--widths', *WIDTHS, '--cfg-options', *options)
    return folder, folder / 'run/epoch_1_calibrated.pth'


def build_runner(folder, checkpoint):
    roots = {f'{split}_dataloader.dataset.data_root': f'{folder}/scenes/' for split in ('train', 'test')}
    options = {**roots, 'model.backbone.init_cfg': None, 'model.test_cfg.score_thr': 0}
    cfg = load_config(CONFIG, options, str(folder / 'test'))
    cfg.test_evaluator = dict(type='us3l_mm.Scores')
    cfg.load_from = str(checkpoint)
    return Runner.from_cfg(cfg)


def test_calibration_changes_nothing_but_statistics(trained):
    before = CheckpointLoader.load_checkpoint(str(trained[0] / 'run/epoch_1.pth'))['state_dict']
    after = CheckpointLoader.load_checkpoint(str(trained[1]))['state_dict']
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and all('.running_' in key for key in changed)
    assert after.keys() > before.keys() and all(key.endswith('_0_5') for key in after.keys() - before.keys())


def test_rows_are_those_of_the_dense_detectors(trained):
    runner = build_runner(*trained)
    rows = evaluate_widths(runner, WIDTHS, warmup=0, repeats=1)
    assert [row['width'] for row in rows] == list(WIDTHS)
    assert rows[0]['metrics']['scores'] != rows[1]['metrics']['scores']
    slimmable = runner.model
    for row in rows:
        dense = runner.model = slimmable.dense(row['width'])
        expected = runner.test()
        assert row['metrics'] == pytest.approx(expected, rel=1e-4) and expected['images'] == 0.04
        assert row['params'] == sum(parameter.numel() for parameter in dense.parameters())
        assert row['latency_ms'] > 0 and row['size'] == (64, 64)


def test_full_width_costs_are_those_of_a_plain_detector(trained):
    runner = build_runner(*trained)
    cfg = read_config('configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py')
    cfg.model.backbone.init_cfg = None
    plain = detector_costs(MODELS.build(cfg.model), (64, 64))
    costs = [detector_costs(runner.model.dense(width, False), (64, 64)) for width in (1.0, 0.5)]
    for key in ('params', 'macs'):
        assert costs[0][key] == plain[key] > costs[1][key]


def test_uncalibrated_width_is_refused(trained):
    with pytest.raises(RuntimeError, match=r'no statistics for width 0\.75 .*us3l calibrate'):
        evaluate_widths(build_runner(*trained), [0.75])


def test_detector_of_one_width_is_refused(trained):
    runner = build_runner(*trained)
    runner.model = runner.model.dense(0.5, with_statistics=False)
    with pytest.raises(TypeError, match=r"type 'us3l_mm\.SlimmableDetector', got RetinaNet"):
        evaluate_widths(runner, WIDTHS)


def test_table_has_a_line_for_each_width():
    costs = dict(size=(64, 48), params=1_500_000, macs=2_000_000_000, latency_ms=3.14)
    values = {1.0: 0.375, 0.5: 0.25}
    rows = [dict(width=w, metrics={'coco/bbox_mAP': ap, 'coco/bbox_mAP_l': -1.0}, **costs) for w, ap in values.items()]
    assert widths_table(rows).splitlines() == [
        '| width | coco/bbox_mAP (%) | params (M) | MACs (G) | latency (ms) |',
        '|---|---|---|---|---|',
        '| 1 | 37.5 | 1.50 | 2.000 | 3.1 |',
        '| 0.5 | 25.0 | 1.50 | 2.000 | 3.1 |',
        '',
        'MACs and latency are for one image of 64 x 48 pixels.',
    ]
