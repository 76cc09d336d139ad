"""US3L's iteration, against a second implementation in plain torch that shares no code with the first.

The reference keeps parameters in a dict, slices them by hand, and takes its losses, batch norm, moving
average and regulariser from the formulas; only torch's SGD and autograd are common to both.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from builders import ABLATIONS, DECAY, LR, MOMENTUM, make_optimizer, make_us3l, make_views

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


MORE = {
    'US+BYOL: momentum without distillation': (('mse', None, False, True, True), {}),
    'NCE, momentum without distillation': (('nce', None, False, True, True), dict(group_reg=False)),
    '13, accumulate': (ABLATIONS[13], dict(update='accumulate')),
    '4, accumulate': (ABLATIONS[4], dict(update='accumulate')),
    '2, accumulate, no regulariser': (ABLATIONS[2], dict(update='accumulate', group_reg=False)),
    '13, not dynamic': (ABLATIONS[13], dict(sampler=dict(dynamic=False))),
    '13, no sandwich': (ABLATIONS[13], dict(sampler=dict(dynamic=False, sandwich=False))),
    '6, no sandwich': (ABLATIONS[6], dict(sampler=dict(dynamic=True, sandwich=False))),
    '13, five widths': (ABLATIONS[13], dict(sampler=dict(num_widths=5, dynamic=False))),
    '13, no regulariser': (ABLATIONS[13], dict(group_reg=False)),
    '4, no regulariser': (ABLATIONS[4], dict(group_reg=False)),
    '13, fixed list of widths': (ABLATIONS[13], dict(sampler=dict(widths=(0.25, 1.0, 0.5), dynamic=False))),
    '13, momentum rises by a cosine': (ABLATIONS[13], dict(momentum_end=1.0)),
    '13, same view too': (ABLATIONS[13], dict(same_view_weight=0.3)),
    '5, same view only': (ABLATIONS[5], dict(same_view_weight=1.0)),
    '4, losses weighted by width': (ABLATIONS[4], dict(width_power=1.5)),
    '9, losses weighted by width': (ABLATIONS[9], dict(width_power=1.0)),
}

TASKS = {f'ablation {n}': (case, {}) for n, case in ABLATIONS.items()} | MORE


def channels_at(channels, width):
    value = channels * width
    count = max(1, 8 * math.floor((value + 4) / 8))
    return count + 8 if count < 0.9 * value else count


def batch_norm(x, weight, bias):
    axes = [0, 2, 3][: x.dim() - 1]
    mean = x.mean(axes, keepdim=True)
    variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    shape = [1, -1, 1, 1][: x.dim()]
    c = x.size(1)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:c].reshape(shape) + bias[:c].reshape(shape)


class Reference:
    """Parameters of a US3L model, and what one iteration does to them."""

    def __init__(
        self, model, case, group_reg=True, update='per_width', momentum_end=0.99, same_view_weight=0, width_power=0
    ):
        self.base, self.distill, self.auxiliary, self.base_momentum, self.sub_momentum = case
        self.group_reg, self.update = group_reg, update
        self.momentum_end, self.same_view_weight, self.width_power = momentum_end, same_view_weight, width_power
        parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.teacher = {n.removeprefix('teacher.'): p for n, p in parameters.items() if n.startswith('teacher.')}
        self.online = {n: p.requires_grad_() for n, p in parameters.items() if not n.startswith('teacher.')}
        self.optimizer = torch.optim.SGD(self.online.values(), lr=LR, momentum=MOMENTUM)

    @staticmethod
    def embed(p, x, width):
        def conv_norm(x, conv, norm, stride=1):
            weight = p[f'backbone.{conv}.weight']
            weight = weight[: channels_at(weight.size(0), width), : x.size(1)]
            x = F.conv2d(x, weight, stride=stride, padding=weight.size(-1) // 2)
            return batch_norm(x, p[f'backbone.{norm}.weight'], p[f'backbone.{norm}.bias'])

        x = conv_norm(x, 'conv1', 'bn1').relu()
        for block, stride in (('layer1.0', 1), ('layer2.0', 2)):
            y = conv_norm(x, f'{block}.conv1', f'{block}.bn1', stride).relu()
            y = conv_norm(y, f'{block}.conv2', f'{block}.bn2')
            if block == 'layer2.0':
                x = conv_norm(x, f'{block}.downsample.0', f'{block}.downsample.1', stride)
            x = (x + y).relu()
        return Reference.perceptron(p, 'neck', x.mean((2, 3)))

    @staticmethod
    def perceptron(p, prefix, x):
        for i in range(3):
            if f'{prefix}.fc{i}.weight' not in p:
                break
            if i > 0:
                x = x.relu()
            x = x @ p[f'{prefix}.fc{i}.weight'][:, : x.size(1)].T
            if f'{prefix}.fc{i}.bias' in p:
                x = x + p[f'{prefix}.fc{i}.bias']
            if f'{prefix}.bn{i}.weight' in p:
                x = batch_norm(x, p[f'{prefix}.bn{i}.weight'], p[f'{prefix}.bn{i}.bias'])
        return x

    @staticmethod
    def loss(name, student, teacher):
        student = student / (student**2).sum(1, keepdim=True).sqrt()
        teacher = teacher.detach() / (teacher.detach() ** 2).sum(1, keepdim=True).sqrt()
        if name == 'mse':
            return -sum(p @ z for p, z in zip(student, teacher)) / len(student)
        x, n, total = torch.cat([student, teacher]), len(student), 0
        for i in range(2 * n):
            exponentials = (x @ x[i] / 0.5).exp()
            others = torch.cat([exponentials[:i], exponentials[i + 1 :]])
            total = total - (exponentials[(i + n) % (2 * n)] / others.sum()).log()
        return total / (2 * n)

    def penalty(self, progress, heads):
        slope, total = 0.05 * min(1, progress / 0.5), 0
        for name, parameter in self.online.items():
            if not heads and not name.startswith(('backbone', 'neck')):
                continue
            if parameter.dim() == 2:
                total = total + DECAY * (parameter**2).sum()
                continue
            size = len(parameter) // 8
            for i, weights in enumerate([*parameter[: 7 * size].split(size), parameter[7 * size :]]):
                total = total + DECAY * (1 - slope * i) * (weights**2).sum()
        return total

    def iterate(self, views, widths, progress):
        """One iteration; returns the loss of each width and the first penalty."""
        momentum = self.momentum_end - (self.momentum_end - 0.99) * (math.cos(math.pi * progress) + 1) / 2
        for name, parameter in self.teacher.items():
            self.teacher[name] = momentum * parameter + (1 - momentum) * self.online[name].detach()
        losses, penalties, widest = [], [], None
        for i, width in enumerate(widths):
            if i == 0 or self.update == 'per_width':
                self.optimizer.zero_grad(set_to_none=True)
            outputs = [self.embed(self.online, view, width) for view in views]
            if i == 0:
                widest = [z.detach() for z in outputs]
            momentum = self.base_momentum if i == 0 else self.sub_momentum
            if momentum:
                at = 1.0 if self.distill else width
                targets = [self.embed(self.teacher, view, at) for view in views]
            else:
                targets = widest if self.distill else outputs
            if i == 0 or not self.distill:
                name, head = self.base, 'head.predictor'
            else:
                name, head = self.distill, 'distill_predictor' if self.auxiliary else 'head.predictor'
            predictions = [self.perceptron(self.online, head, z) for z in outputs]  # without a predictor: z itself
            loss = (self.loss(name, predictions[0], targets[1]) + self.loss(name, predictions[1], targets[0])) / 2
            if i > 0 and self.same_view_weight:
                same = (self.loss(name, predictions[0], targets[0]) + self.loss(name, predictions[1], targets[1])) / 2
                loss = (1 - self.same_view_weight) * loss + self.same_view_weight * same
            loss = loss * width**self.width_power
            losses.append(loss.item())
            steps = self.update == 'per_width' or i == len(widths) - 1
            if steps and self.group_reg:
                penalties.append(self.penalty(progress, heads=width < 1))
                loss = loss + penalties[-1]
            loss.backward()
            if steps:
                self.optimizer.step()
        return losses, penalties[0].item() if penalties else None


def assert_same_parameters(model, reference):
    expected = dict(reference.online) | {f'teacher.{name}': p for name, p in reference.teacher.items()}
    got = dict(model.named_parameters())
    assert got.keys() == expected.keys()
    for name, parameter in got.items():
        error = (parameter - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-6, f'{name}: relative error {error:.1e}'


@pytest.mark.slow
@pytest.mark.parametrize('update', ['per_width', 'accumulate'])
def test_fifty_iterations_equal_the_reference(update, set_time):
    """Shared slices, the update of all tensors at once and inference mode drift from plain loops by rounding only."""
    model = make_us3l(ABLATIONS[13], update=update)
    reference = Reference(model, ABLATIONS[13], update=update)
    optimizer = make_optimizer(model)
    for iteration, views in enumerate(make_views(50)):
        set_time(iteration, 50, iteration, 50)
        losses, _ = reference.iterate(views, model.sampler(iteration, iteration, 50), iteration / 50)
        logs = model.train_step(dict(inputs=views), optimizer)
        assert logs['loss'].item() == pytest.approx(sum(losses), rel=1e-6)
    assert_same_parameters(model, reference)


@pytest.mark.parametrize('task', TASKS)
def test_iterations_equal_the_reference(task, set_time):
    case, options = TASKS[task]
    options = dict(options)
    sampler = options.pop('sampler', {})
    model = make_us3l(case, sampler=sampler, **options)
    reference = Reference(model, case, **options)
    model.log_interval = 1
    optimizer = make_optimizer(model)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = []
    for iteration, views in enumerate(make_views(4)):
        set_time(iteration, 5, iteration, 4)  # stages 0 to 3 of dynamic sampling; the ramp ends on the way
        widths = model.sampler(iteration, iteration, 4)
        trained.append(len(widths))
        losses, penalty = reference.iterate(views, widths, iteration / 5)
        logs = model.train_step(dict(inputs=views), optimizer)
        assert logs['loss'].item() == pytest.approx(sum(losses), rel=1e-6)
        assert logs['loss_widest'].item() == pytest.approx(losses[0], rel=1e-6)
        if len(widths) > 1:
            assert logs['loss_narrowest'].item() == pytest.approx(losses[-1], rel=1e-6)
        if len(widths) > 2:
            between = losses[1:-1]
            assert logs['loss_random'].item() == pytest.approx(sum(between) / len(between), rel=1e-6)
        if penalty is None:
            assert 'group_reg' not in logs
        else:
            assert logs['group_reg'].item() == pytest.approx(penalty, rel=1e-6)
        assert_same_parameters(model, reference)
    count = sampler.get('num_widths', 3)
    assert trained == [count if sampler.get('dynamic') is False else 1, count, count, count]
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, start[name])}
    # Each and every parameter took part; the gradient of biases before a batch norm is zero in theory.
    assert moved | {name for name in start if 'neck.fc' in name and name.endswith('bias')} == start.keys()
    assert bool(reference.teacher) == (case[3] or case[4])
