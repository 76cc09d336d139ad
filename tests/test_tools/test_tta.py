"""Test-time augmentation through tools/test.py."""

import json
import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.config import load_config
from us3l_mm.datasets import Digits

pytestmark = pytest.mark.slow

DETECTOR = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
PIXELS = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False)
PIPELINE = [dict(type='PackInputs')]


def classifier(**top):
    """Config of a classifier with a dense narrow net, tested on 6 digits."""
    dataset = dict(type='us3l_mm.Digits', split='test', pipeline=PIPELINE, indices=6)
    model = dict(
        type='ImageClassifier',
        data_preprocessor=PIXELS,
        backbone=dict(
            type='us3l_mm.SlimmableResNet_CIFAR',
            depth=18,
            width=0.5,
            stem_channels=16,
            base_channels=16,
            norm_cfg=dict(type='BN', requires_grad=True),
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')),
    )
    loader = dict(batch_size=4, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            test_dataloader=loader,
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            test_cfg=dict(),
            **top,
        )
    )


def saved(cfg, path):
    """Model as if trained, and its checkpoint."""
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    for name, tensor in model.state_dict().items():
        if name.endswith('running_mean'):
            tensor.normal_(0, 0.1)
        elif tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model.eval()


def test_scores_of_a_classifier_are_the_mean_over_both_sides(tmp_path, run_tool):
    cfg = classifier()
    cfg.dump(tmp_path / 'cls.py')
    model = saved(cfg, tmp_path / 'cls.pth')
    out = tmp_path / 'out.pkl'
    run_tool('test', tmp_path / 'cls.py', tmp_path / 'cls.pth', '--tta', '--out', out, '--work-dir', tmp_path / 'work')
    found = torch.stack([sample['pred_score'] for sample in pickle.loads(out.read_bytes())])
    images = torch.stack([data['inputs'] for data in Digits(split='test', pipeline=PIPELINE, indices=6)])
    images = (images.float() - 127.5) / 127.5
    with torch.no_grad():
        sides = [model.head(model.extract_feat(side)) for side in (images, images.flip(3))]
    expected = sum(side.softmax(1) for side in sides) / 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_detector_is_tested_on_both_sides_and_its_checkpoint_must_be_whole(tmp_path, run_tool, digit_scenes):
    cfg = load_config(DETECTOR)
    model = saved(cfg, tmp_path / 'det.pth')
    options = [f'test_dataloader.dataset.data_root={digit_scenes}/', 'test_dataloader.num_workers=0']
    options += ['test_dataloader.persistent_workers=False', 'model.test_cfg.score_thr=0']
    arguments = ['--tta', '--work-dir', tmp_path / 'work', '--out', tmp_path / 'out.pkl', '--cfg-options', *options]
    run_tool('test', DETECTOR, tmp_path / 'det.pth', *arguments)
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert [sample['img_id'] for sample in predictions] == [1, 2]
    assert all(0 < len(sample['pred_instances']['scores']) <= 100 for sample in predictions)
    (metrics,) = (tmp_path / 'work').glob('*/*.json')
    assert 'coco/bbox_mAP' in json.loads(metrics.read_text())

    state = {name: tensor for name, tensor in model.state_dict().items() if 'retina_reg' not in name}
    torch.save(dict(state_dict=state), tmp_path / 'part.pth')
    with pytest.raises(RuntimeError, match='(?s)missing keys.*retina_reg'):
        run_tool('test', DETECTOR, tmp_path / 'part.pth', *arguments)


def test_several_widths_are_refused(run_tool, capsys):
    with pytest.raises(SystemExit):
        run_tool('test', DETECTOR, 'x.pth', '--tta', '--widths', 1.0)
    assert '--widths cannot be combined' in capsys.readouterr().err
