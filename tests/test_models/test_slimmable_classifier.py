"""Supervised training at several widths, against a plain loop over the widths."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from us3l_mm.evaluation import WidthAccuracy
from us3l_mm.models import SlimmableClassifier
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, SwitchableBatchNorm2d, calibrate_bn, use_width

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

LIST = (1.0, 0.5, 0.25)
METHODS = {
    'S-Net': dict(sampler=dict(widths=LIST, dynamic=False)),
    'S-Net, distilled': dict(sampler=dict(widths=LIST, dynamic=False), distill=True),
    'US-Net': dict(sampler=dict(dynamic=False, num_widths=4)),
    'US-Net, distilled': dict(sampler=dict(dynamic=False, num_widths=4), distill=True),
    'US-Net, distilled, an update for each width': dict(sampler=dict(dynamic=False), distill=True, update='per_width'),
}


class Net(nn.Module):
    """Two convolutions whose batch norm is that of the method."""

    def __init__(self, method):
        super().__init__()
        switchable = method.startswith('S-Net')
        rounding = dict(rounding='int') if switchable else {}
        self.conv1 = SlimmableConv2d(3, 32, 3, **rounding)
        self.norm = SwitchableBatchNorm2d(32, widths=LIST) if switchable else SlimmableBatchNorm2d(32)
        self.conv2 = SlimmableConv2d(32, 48, 3, stride=2, **rounding)

    def forward(self, x):
        return (self.conv2(self.norm(self.conv1(x)).relu()),)


def build(method, **options):
    torch.manual_seed(0)
    return SlimmableClassifier(
        backbone=Net(method),
        head=dict(type='us3l_mm.SlimmableLinearClsHead', num_classes=5, in_channels=48),
        data_preprocessor=dict(mean=[127.0] * 3, std=[60.0] * 3),
        **{'eval_widths': LIST, **METHODS[method], **options},
    ).train()


def batch(count=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 9, 9), generator=generator, dtype=torch.uint8)
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(i % 5) for i in range(count)])


def logits_of(model, x, width):
    with use_width(model.backbone, width):
        features = model.backbone(x)[-1].mean((2, 3))
    return features @ model.head.fc.weight[:, : features.size(1)].T + model.head.fc.bias


@pytest.mark.parametrize('method', METHODS)
def test_iterations_equal_a_loop_over_the_widths(method, set_time):
    model = build(method)
    reference = copy.deepcopy(model)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    sgd = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9)
    distill, per_width = METHODS[method].get('distill', False), 'update' in METHODS[method]
    for iteration in range(3):
        set_time(iteration, 3, iteration, 3)
        data = batch(seed=iteration)
        x, labels = (data['inputs'].float() - 127) / 60, torch.arange(8) % 5
        losses, widest = [], None
        sgd.zero_grad()
        for width in model.sampler(iteration, iteration, 3):
            logits = logits_of(reference, x, width)
            if widest is not None and distill:
                loss = -(widest * logits.log_softmax(1)).sum(1).mean()
            else:
                loss = -logits.log_softmax(1)[range(8), labels].mean()
            widest = logits.detach().softmax(1) if widest is None else widest
            loss.backward()
            losses.append(loss.item())
            if per_width:
                sgd.step()
                sgd.zero_grad()
        if not per_width:
            sgd.step()
        logs = model.train_step(data, optimizer)
        assert logs['loss'].item() == pytest.approx(sum(losses), rel=1e-5)
        assert logs['loss_widest'].item() == pytest.approx(losses[0], rel=1e-5)
    expected = reference.state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize('method', ['S-Net', 'US-Net'])
def test_predictions_are_those_of_each_width(method):
    model, data = build(method), batch()
    x = (data['inputs'].float() - 127) / 60
    if method == 'US-Net':
        calibrate_bn(model.backbone, LIST, [x])
    model.eval()
    samples = model.test_step(data)
    for index, width in enumerate(LIST):
        with torch.no_grad():
            expected = F.softmax(logits_of(model, x, width), dim=1)
        torch.testing.assert_close(torch.stack([sample.width_scores[index] for sample in samples]), expected)
    metric = WidthAccuracy()
    metric.process({}, [sample.to_dict() for sample in samples])
    accuracies = metric.compute_metrics(metric.results)
    hits = [int(sample.width_scores[1].argmax()) == int(sample.gt_label) for sample in samples]
    assert accuracies['top1_w0.5'] == pytest.approx(100 * sum(hits) / len(hits))


def test_evaluating_an_uncalibrated_universal_net_names_the_command():
    with pytest.raises(RuntimeError, match=r'us3l calibrate'):
        build('US-Net').eval().test_step(batch())


def test_group_regularisation_decays_backbone_and_head(set_time):
    model = build('US-Net', group_reg=dict(coefficient=1e-2), sampler=dict(num_widths=2))
    set_time(0, 4, 0, 4)
    model.head.fc.weight.data.fill_(0.5)
    before = [p.detach().clone() for p in model.parameters()]
    logs = model.train_step(batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)))
    assert logs['group_reg'].item() == pytest.approx(1e-2 * sum((p**2).sum().item() for p in before), rel=1e-5)


def test_loss_outside_an_iteration_names_the_wrapper():
    with pytest.raises(RuntimeError, match=r'SlimmableClassifier trains several widths .*US3LDistributedDataParallel'):
        build('S-Net')(batch()['inputs'].float(), batch()['data_samples'], mode='loss')


def test_unknown_update_is_refused():
    with pytest.raises(ValueError, match="update must be one of .* got 'sometimes'"):
        build('S-Net', update='sometimes')
