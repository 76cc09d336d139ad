"""All widths in one pass equal each width alone."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from us3l_mm.slim import calibrate_bn, to_dense

BACKBONE = dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16)
WIDTHS = (1.0, 0.5, 0.3)


def build(widths=WIDTHS, calibrated=WIDTHS):
    model = MODELS.build(
        dict(
            type='us3l_mm.LinearProbe',
            backbone=BACKBONE,
            widths=widths,
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4),
            data_preprocessor=dict(mean=[127.0] * 3, std=[60.0] * 3),
        )
    )
    model.init_weights()
    if calibrated:
        calibrate_bn(model.backbone, calibrated, [torch.randn(8, 3, 16, 16) for _ in range(2)])
    return model.train()


def batch(count=8):
    samples = [DataSample().set_gt_label(i % 4) for i in range(count)]
    return dict(inputs=torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8), data_samples=samples)


def test_training_equals_each_head_alone():
    model, data = build(), batch()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9))
    images = (data['inputs'].float() - 127) / 60
    labels = torch.tensor([int(sample.gt_label) for sample in data['data_samples']])
    alone = {}
    for width, head in zip(WIDTHS, model.heads.values()):
        dense = to_dense(model.backbone, width).eval()
        weight, bias = (p.detach().clone().requires_grad_() for p in (head.fc.weight, head.fc.bias))
        sgd = torch.optim.SGD([weight, bias], lr=0.5, momentum=0.9)
        for _ in range(3):
            with torch.no_grad():
                features = dense(images)[-1].mean(dim=(2, 3))
            loss = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        alone[width] = weight, bias, loss.item()
    for _ in range(3):
        logs = model.train_step(data, optimizer)
    for width, head in zip(WIDTHS, model.heads.values()):
        weight, bias, loss = alone[width]
        torch.testing.assert_close(head.fc.weight, weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(head.fc.bias, bias, rtol=1e-4, atol=1e-5)
        assert logs[f'loss_w{width:g}'].item() == pytest.approx(loss, rel=1e-4)
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[f'backbone.{key}']), key  # frozen, statistics included


def test_scores_are_those_of_each_width():
    model, data = build(), batch()
    samples = model.eval().test_step(data)
    images = (data['inputs'].float() - 127) / 60
    for index, (width, head) in enumerate(zip(WIDTHS, model.heads.values())):
        with torch.no_grad():
            features = to_dense(model.backbone, width).eval()(images)[-1].mean(dim=(2, 3))
            expected = (features @ head.fc.weight.T + head.fc.bias).softmax(1)
        got = torch.stack([sample.width_scores[index] for sample in samples])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_uncalibrated_width_names_the_command():
    model = build(calibrated=(1.0,))
    with pytest.raises(RuntimeError, match=r'us3l calibrate .* --widths 0\.5'):
        model.test_step(batch())


@pytest.mark.parametrize('widths, message', [((), 'a list of 1 or more'), ((0.5, 0.5), 'no width twice'), ((2,), '2')])
def test_no_width_or_one_twice_or_too_wide_is_refused(widths, message):
    with pytest.raises(ValueError, match=f'widths must .*{message}'):
        build(widths, None)


def test_net_of_a_fixed_width_is_run_as_it_is():
    model = MODELS.build(
        dict(
            type='us3l_mm.LinearProbe',
            backbone=dict(BACKBONE, width=0.5),
            widths=[0.5],
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4),
            data_preprocessor=dict(mean=[127.0] * 3, std=[60.0] * 3),
        )
    ).eval()
    data = batch()
    (head,) = model.heads.values()
    with torch.no_grad():
        features = model.backbone((data['inputs'].float() - 127) / 60)[-1].mean(dim=(2, 3))
        expected = (features @ head.fc.weight.T + head.fc.bias).softmax(1)
    got = torch.stack([sample.width_scores[0] for sample in model.test_step(data)])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert features.size(1) == 64


@pytest.mark.parametrize('widths', [(1.0,), (1.0, 0.5)])
def test_net_of_a_fixed_width_has_no_other(widths):
    with pytest.raises(ValueError, match=r'dense net of width 0\.5, so widths must be \[0\.5\], got \[1\.0'):
        MODELS.build(
            dict(
                type='us3l_mm.LinearProbe',
                backbone=dict(BACKBONE, width=0.5),
                widths=widths,
                head=dict(type='mmpretrain.LinearClsHead', num_classes=4),
            )
        )
