"""US3L's iteration, against a second implementation in plain torch that shares no code with the first.

The reference keeps parameters in a dict, slices them by hand, and takes its losses, batch norm, moving
average and regulariser from the formulas; only torch's SGD and autograd are common to both.
"""

import math
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper
from mmpretrain.models.backbones.resnet import BasicBlock
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from us3l_mm.models import US3L, MomentumTeacher, SlimmableResNet_CIFAR
from us3l_mm.models.algorithms.us3l import feature_std
from us3l_mm.slim import SlimmableLayer

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

LR, MOMENTUM, DECAY = 0.05, 0.9, 2.5e-3  # a strong regulariser, so that its errors show

# The paper's ablations: base loss, distillation loss, auxiliary head, momentum for the base and the sub-networks.
ABLATIONS = {
    1: ('mse', None, False, False, False),
    2: ('mse', 'mse', False, False, False),
    3: ('mse', 'mse', False, True, True),
    4: ('mse', 'mse', True, True, True),
    5: ('mse', 'nce', False, False, False),
    6: ('mse', 'nce', False, False, True),
    7: ('mse', 'nce', False, True, True),
    8: ('mse', 'nce', True, True, True),
    9: ('nce', None, False, False, False),
    10: ('nce', 'mse', False, False, False),
    11: ('nce', 'mse', False, False, True),
    12: ('nce', 'mse', False, True, True),
    13: ('nce', 'mse', True, True, True),
    14: ('nce', 'nce', False, False, False),
    15: ('nce', 'nce', False, False, True),
    16: ('nce', 'nce', False, True, True),
    17: ('nce', 'nce', True, True, True),
}
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


class TinyResNet(SlimmableResNet_CIFAR):
    """ResNet of a block without and a block with a downsampling shortcut."""

    arch_settings = {18: (BasicBlock, (1, 1))}


def predictor_cfg():
    return dict(
        type='NonLinearNeck',
        in_channels=16,
        hid_channels=24,
        out_channels=16,
        num_layers=2,
        with_bias=False,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d', track_running_stats=False),
    )


def loss_cfg(name):
    return dict(type='CosineSimilarityLoss') if name == 'mse' else dict(type='us3l_mm.NTXentLoss')


def model_cfg(case, group_reg=True, backbone=None, **options):
    base, distill, auxiliary, base_momentum, sub_momentum = case
    return dict(
        data_preprocessor=BaseDataPreprocessor(),
        backbone=TinyResNet(
            depth=18,
            stem_channels=32,
            base_channels=32,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(1,),
            zero_init_residual=False,
            **(backbone or {}),
        ),
        neck=dict(
            type='us3l_mm.SlimmableNonLinearNeck',
            in_channels=64,
            hid_channels=24,
            out_channels=16,
            num_layers=3,
            with_bias=(True, False) if base == 'mse' else True,
            with_last_bn=False,
            with_last_bias=True,
        ),
        head=dict(
            type='LatentPredictHead',
            loss=loss_cfg(base),
            predictor=predictor_cfg() if base == 'mse' else dict(type='torch.nn.Identity'),
        ),
        distill_loss=None if distill is None else loss_cfg(distill),
        distill_predictor=predictor_cfg() if auxiliary else None,
        base_target='momentum' if base_momentum else 'online',
        sub_target='momentum' if sub_momentum else 'online',
        group_reg=dict(coefficient=DECAY) if group_reg else None,
        **options,
    )


def make_model(case, **options):
    """Model in float64 whose every parameter, the teacher's too, is random."""
    torch.manual_seed(5)
    model = US3L(**model_cfg(case, **options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.train()


def make_optimizer(model, wrapper=OptimWrapper, lr=LR, **kwargs):
    return wrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM), **kwargs)


def make_views(count=5, n=4, dtype=torch.float64, size=8):
    generator = torch.Generator().manual_seed(7)
    return [[torch.randn(n, 3, size, size, dtype=dtype, generator=generator) for _ in range(2)] for _ in range(count)]


# The reference


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


@pytest.mark.parametrize('update', ['per_width', 'accumulate'])
def test_fifty_iterations_equal_the_reference(update, set_time):
    """Shared slices, the update of all tensors at once and inference mode drift from plain loops by rounding only."""
    model = make_model(ABLATIONS[13], update=update)
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
    model = make_model(case, sampler=sampler, **options)
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


# Which parameters are regularised, and when


@contextmanager
def recorded_gradients(model, optimizer):
    """Gradient of each parameter at each step of the optimizer; None where there was none."""
    steps = []

    def record(*_):
        steps.append({n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()})

    handle = optimizer.optimizer.register_step_pre_hook(record)
    yield steps
    handle.remove()


def gradients(case, group_reg, set_time, update='per_width', epoch=3):
    model = make_model(case, group_reg=group_reg, update=update, sampler=dict(dynamic=True))
    optimizer = make_optimizer(model, lr=0.0)  # weights stay, so that only the regulariser differs
    set_time(epoch, 4, epoch, 4)
    with recorded_gradients(model, optimizer) as steps:
        model.train_step(dict(inputs=make_views(1)[0]), optimizer)
    return model, steps


@pytest.mark.parametrize('number', [4, 13])
def test_heads_are_regularised_below_full_width_only(number, set_time):
    model, plain = gradients(ABLATIONS[number], False, set_time)
    _, regularised = gradients(ABLATIONS[number], True, set_time)
    assert len(plain) == len(regularised) == 3
    for step, (without, with_it) in enumerate(zip(plain, regularised)):
        for name, parameter in model.named_parameters():
            a, b = without[name], with_it[name]
            if name.startswith('teacher'):
                assert a is None and b is None
            elif name.startswith(('backbone', 'neck')):
                assert not torch.equal(a, b)
            elif step == 0:  # full width
                assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
            else:
                assert not torch.equal(torch.zeros_like(b) if a is None else a, b)
            if parameter.dim() == 2 and b is not None and a is None:
                torch.testing.assert_close(b, 2 * DECAY * parameter.detach())


def test_auxiliary_head_serves_the_narrower_widths_only(set_time):
    _, steps = gradients(ABLATIONS[4], False, set_time)
    for step, gradient in enumerate(steps):
        assert (gradient['distill_predictor.fc0.weight'] is None) == (step == 0)
        assert (gradient['head.predictor.fc0.weight'] is None) == (step > 0)


def test_without_auxiliary_head_distillation_sits_behind_the_base_predictor(set_time):
    _, steps = gradients(ABLATIONS[3], False, set_time)
    assert all(gradient['head.predictor.fc0.weight'].any() for gradient in steps)


def test_gradient_of_the_narrowest_width_stays_inside_its_prefix(set_time):
    _, steps = gradients(ABLATIONS[13], False, set_time)
    conv = steps[-1]['backbone.layer2.0.conv2.weight']  # 64 x 64 at width 0.25
    assert conv[:16, :16].any() and not conv[16:].any() and not conv[:, 16:].any()
    first = steps[-1]['neck.fc0.weight']
    assert first[:, :16].any() and not first[:, 16:].any()
    assert steps[-1]['neck.fc1.weight'].all()


def test_accumulated_gradient_is_the_sum_over_widths(set_time):
    """With weights that do not move, one update sees the sum of what three updates see."""
    _, each = gradients(ABLATIONS[4], False, set_time)
    _, (joint,) = gradients(ABLATIONS[4], False, set_time, update='accumulate')
    for name, gradient in joint.items():
        parts = [step[name] for step in each if step[name] is not None]
        if parts:
            torch.testing.assert_close(gradient, sum(parts), rtol=1e-9, atol=1e-13)
        else:
            assert name.startswith('teacher') and gradient is None


def test_gradients_from_before_the_iteration_do_not_leak_out_of_it(set_time):
    model = make_model(ABLATIONS[13])
    optimizer = make_optimizer(model)
    set_time(3, 4, 3, 4)
    model.train_step(dict(inputs=make_views(1)[0]), optimizer)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# The teacher


def test_init_weights_makes_the_teacher_equal_the_online_net():
    model = US3L(**model_cfg(ABLATIONS[13]))
    before = model.backbone.conv1.weight.detach().clone()
    model.init_weights()
    assert not torch.equal(model.backbone.conv1.weight, before)
    teacher = dict(model.teacher.named_parameters())
    online = {n: p for n, p in model.named_parameters() if n.startswith(('backbone', 'neck'))}
    assert teacher.keys() == online.keys()
    assert all(torch.equal(teacher[name], online[name]) for name in online)
    assert not {p.data_ptr() for p in teacher.values()} & {p.data_ptr() for p in online.values()}


def test_teacher_trains_no_parameters_but_is_in_training_mode(set_time):
    model = make_model(ABLATIONS[13])
    set_time(3, 4, 3, 4)
    modes, widths = [], []
    model.teacher.backbone.bn1.register_forward_hook(lambda m, _, y: modes.append((m.training, y.requires_grad)))
    model.teacher.backbone.bn1.register_forward_hook(lambda m, _, y: widths.append(y.size(1)))
    model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    assert modes == [(True, False)] * 2  # once for each view, whatever the number of widths
    assert widths == [32] * 2
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    assert all(module.training for module in model.teacher.modules())


def test_training_changes_no_buffer(set_time):
    """Statistics of different widths must never mix: nothing is kept."""
    model = make_model(ABLATIONS[13])
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    set_time(3, 4, 3, 4)
    model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    after = dict(model.named_buffers())
    assert after.keys() == buffers.keys() and buffers
    assert all(torch.equal(after[name], buffers[name]) for name in buffers)
    assert not any(name.startswith('neck') for name in buffers)


@pytest.mark.parametrize('number', [2, 9])
def test_without_momentum_there_is_no_teacher(number):
    model = US3L(**model_cfg(ABLATIONS[number]))
    model.init_weights()
    assert model.teacher is None
    assert not any('teacher' in name for name in model.state_dict())


@pytest.mark.parametrize('momentum', [0.0, 0.3, 0.99, 1.0])
def test_teacher_moves_by_the_formula(momentum):
    backbone, neck = nn.Conv2d(3, 4, 1).double(), nn.Linear(4, 2).double()
    teacher = MomentumTeacher(backbone, neck, momentum)
    before = [p.clone() for p in teacher.parameters()]
    for p in (*backbone.parameters(), *neck.parameters()):
        p.data.normal_()
    teacher.update(backbone, neck)
    for old, q, k in zip(before, (*backbone.parameters(), *neck.parameters()), teacher.parameters()):
        torch.testing.assert_close(k.data, momentum * old + (1 - momentum) * q.data, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('momentum', [-0.1, 1.1])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=rf'momentum must be in \[0, 1\], got {momentum}'):
        MomentumTeacher(nn.Identity(), nn.Identity(), momentum)


# What is logged


def test_penalty_is_logged_every_few_iterations_and_applied_in_all(set_time):
    """At 1 and at 3 no line is written, but weights without gradient of the loss shrink all the same."""
    models = [make_model(ABLATIONS[13], group_reg=group_reg) for group_reg in (False, True)]
    for iteration, views in enumerate(make_views(4)):
        set_time(iteration, 8, 3, 4)
        for model in models:
            model.log_interval = 2
            logs = model.train_step(dict(inputs=views), make_optimizer(model))
            assert ('group_reg' in logs) == (model is models[1] and iteration % 2 == 0)
        norms = [sum(p.square().sum() for p in model.backbone.parameters()).item() for model in models]
        assert norms[1] < norms[0]


class NoReading(TorchDispatchMode):
    """Raises where a value is read from the device, which would make the CPU wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            raise AssertionError(f'{func} reads a value')
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('number', [4, 13, 17])
def test_no_value_is_read_during_a_step(number, set_time):
    model = make_model(ABLATIONS[number])
    optimizer = make_optimizer(model)
    with NoReading(), pytest.raises(AssertionError, match='reads a value'):
        torch.ones(1).item()
    for iteration, views in enumerate(make_views(2)):
        set_time(iteration, 8, 3, 4)
        with NoReading():
            model.train_step(dict(inputs=views), optimizer)


@pytest.mark.parametrize('num_widths, roles', [(2, {'widest', 'narrowest'}), (4, {'widest', 'narrowest', 'random'})])
def test_logged_values(num_widths, roles, set_time):
    model = make_model(ABLATIONS[13], sampler=dict(num_widths=num_widths))
    model.log_interval = 3
    set_time(9, 12, 3, 4)
    logs = model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    expected = {'loss', 'feature_std', 'group_reg'} | {f'{what}_{role}' for what in ('loss', 'width') for role in roles}
    assert logs.keys() == expected
    widths = model.sampler(9, 3, 4)
    assert (logs['width_widest'], logs['width_narrowest']) == (1.0, 0.25)
    if num_widths == 4:
        assert logs['width_random'] == pytest.approx(sum(widths[1:3]) / 2)
    assert not any(v.requires_grad for v in logs.values() if isinstance(v, torch.Tensor))


def test_first_stage_logs_the_widest_only(set_time):
    model = make_model(ABLATIONS[13], group_reg=False)
    set_time(0, 4, 0, 4)
    logs = model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    assert logs.keys() == {'loss', 'loss_widest', 'width_widest', 'feature_std'}


def test_feature_std():
    x = torch.randn(7, 5, dtype=torch.float64)
    rows = [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in x.tolist()]
    deviations = []
    for column in zip(*rows):
        mean = sum(column) / 7
        deviations.append(math.sqrt(sum((v - mean) ** 2 for v in column) / 6))
    assert feature_std(x).item() == pytest.approx(sum(deviations) / 5 * math.sqrt(5), rel=1e-5)
    assert feature_std(torch.ones(8, 16)).item() == pytest.approx(0, abs=1e-6)  # collapsed
    assert feature_std(torch.randn(2000, 64)).item() == pytest.approx(1, abs=0.02)


# Time


@pytest.mark.parametrize('by_epoch, width', [(True, 0.5), (False, 0.75)])
def test_stages_are_counted_in_epochs_or_iterations(by_epoch, width, set_time):
    model = make_model(ABLATIONS[13], by_epoch=by_epoch)
    set_time(30, 100, 5, 8)  # iteration: stage 1 of 4; epoch: stage 2
    logs = model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    assert logs['width_narrowest'] == pytest.approx(width)


def test_training_without_a_runner_is_refused():
    model = make_model(ABLATIONS[13])
    with pytest.raises(RuntimeError, match='takes the time of training from the Runner'):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))


# Refusals


@pytest.mark.parametrize('how_many', [1, 3])
def test_other_than_two_views_are_refused(how_many, set_time):
    model = make_model(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    views = [torch.randn(4, 3, 8, 8, dtype=torch.float64)] * how_many
    with pytest.raises(ValueError, match=f'needs two views of each image, got {how_many}; see the MultiView'):
        model.train_step(dict(inputs=views), make_optimizer(model))


def test_a_single_tensor_is_refused(set_time):
    model = make_model(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    with pytest.raises(ValueError, match='needs two views of each image, got a single tensor'):
        model.train_step(dict(inputs=torch.randn(2, 3, 8, 8).double()), make_optimizer(model))


def test_batch_of_one_image_is_refused(set_time):
    model = make_model(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match='at least 2 images per process and micro batch, got 1.*drop_last=True'):
        model.train_step(dict(inputs=make_views(1, n=1)[0]), make_optimizer(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradient_accumulation_of_the_optim_wrapper_is_refused(set_time):
    model = make_model(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    with pytest.raises(ValueError, match='accumulative_counts must be 1'):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model, accumulative_counts=2))


def test_loss_outside_an_iteration_names_the_wrapper():
    model = make_model(ABLATIONS[13])
    with pytest.raises(RuntimeError, match='us3l_mm.US3LDistributedDataParallel'):
        model(make_views(1)[0], mode='loss')


def test_tensor_mode_gives_the_features():
    model = make_model(ABLATIONS[13])
    x = make_views(1)[0][0]
    (features,) = model(x)
    assert torch.equal(features, model.backbone(x)[0]) and features.size(1) == 64


@pytest.mark.parametrize('option', ['base_target', 'sub_target', 'update'])
def test_unknown_options_are_refused(option):
    cfg = model_cfg(ABLATIONS[13])
    cfg[option] = 'sometimes'
    with pytest.raises(ValueError, match=f"{option} must be one of .* got 'sometimes'"):
        US3L(**cfg)


def test_auxiliary_head_without_distillation_is_refused():
    with pytest.raises(ValueError, match='distill_predictor needs a distill_loss'):
        US3L(**model_cfg(('nce', None, True, True, True)))


def test_same_view_term_needs_distillation_and_a_share():
    with pytest.raises(ValueError, match='same_view_weight needs a distill_loss'):
        US3L(**model_cfg(ABLATIONS[9], same_view_weight=0.5))
    with pytest.raises(ValueError, match=r'same_view_weight must be in \[0, 1\], got 1.5'):
        US3L(**model_cfg(ABLATIONS[13], same_view_weight=1.5))


@pytest.mark.parametrize('start, end', [(0.99, 1.0), (0.5, 0.9)])
def test_momentum_rises_along_half_a_cosine(start, end):
    """MoCo v3: m(k) = 1 - (1 - m) (cos(pi k / K) + 1) / 2, here for any end."""
    teacher = MomentumTeacher(nn.Identity(), nn.Identity(), start, end)
    for k in range(11):
        expected = end - (end - start) * (math.cos(math.pi * k / 10) + 1) / 2
        assert teacher.momentum_at(k / 10) == pytest.approx(expected, abs=1e-12)
    assert (teacher.momentum_at(0), teacher.momentum_at(1)) == (pytest.approx(start), pytest.approx(end))


def test_momentum_is_constant_by_default():
    teacher = MomentumTeacher(nn.Identity(), nn.Identity(), 0.97)
    assert [teacher.momentum_at(k / 10) for k in range(11)] == [0.97] * 11


def test_backbone_that_splits_its_channels_at_fixed_places_is_refused_when_the_model_is_built():
    cfg = model_cfg(ABLATIONS[13])
    cfg['backbone'] = dict(
        type='Res2Net',
        depth=50,
        base_width=16,
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d'),
        norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d'),
    )
    with pytest.raises(ValueError, match=r'Res2Net cannot run at width 0\.25 .*docs/backbones\.md'):
        US3L(**cfg)
    US3L(**{**cfg, 'sampler': dict(widths=[1.0])})


@pytest.mark.parametrize('with_bias', [(True,), (True, False, True)])
def test_neck_refuses_another_number_of_biases(with_bias):
    cfg = model_cfg(ABLATIONS[13])
    cfg['neck']['with_bias'] = with_bias
    with pytest.raises(ValueError, match='with_bias needs 2 values'):
        US3L(**cfg)


def test_width_comes_back_when_an_iteration_fails(set_time):
    model = make_model(ABLATIONS[13], sampler=dict(dynamic=False))
    set_time(0, 4, 0, 4)

    def fail(*_):
        raise FloatingPointError

    model.distill_loss.register_forward_pre_hook(fail)
    with pytest.raises(FloatingPointError):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    assert all(module.width == 1.0 for module in model.modules() if isinstance(module, SlimmableLayer))


# Other ways to the same numbers


@pytest.mark.filterwarnings('ignore:torch.utils.checkpoint:UserWarning')
def test_activation_checkpointing_changes_nothing(set_time):
    """The backward pass runs the forward again, which must happen at the same width."""
    models = [make_model(ABLATIONS[13], backbone=dict(with_cp=with_cp)) for with_cp in (False, True)]
    set_time(3, 4, 3, 4)
    for model in models:
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters()):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f'{name}: {text}')


class BFloat16OptimWrapper(OptimWrapper):
    """Autocast as mmengine's AmpOptimWrapper has it, but on a CPU."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@pytest.mark.parametrize('number', [4, 13, 17])
def test_bfloat16_autocast_stays_close_to_float32(number, set_time):
    logs = []
    for wrapper in (OptimWrapper, BFloat16OptimWrapper):
        model = make_model(ABLATIONS[number], sampler=dict(dynamic=False)).float()
        set_time(1, 4, 1, 4)
        kinds = set()
        model.neck.fc1.register_forward_hook(lambda _, x, y, kinds=kinds: kinds.add(y.dtype))
        views = make_views(1, n=16, dtype=torch.float32)[0]
        model.log_interval = 1
        logs.append(model.train_step(dict(inputs=views), make_optimizer(model, wrapper)))
        assert kinds == {torch.float32 if wrapper is OptimWrapper else torch.bfloat16}
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())
    for name in ('loss', 'loss_widest', 'loss_narrowest', 'loss_random', 'feature_std', 'group_reg'):
        # bfloat16 keeps 8 bits: errors of some percent of a cosine.
        assert logs[1][name].isfinite()
        assert logs[1][name].item() == pytest.approx(logs[0][name].item(), abs=0.06), name


class ScalingOptimWrapper(OptimWrapper):
    """Loss scaling as mmengine's AmpOptimWrapper has it, but on a CPU."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)

    def backward(self, loss):
        self.loss_scaler.scale(loss).backward()

    def step(self):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


@pytest.mark.parametrize('update', ['per_width', 'accumulate'])
def test_loss_scaling_changes_nothing(update, set_time):
    """The penalty's gradient must be scaled like the loss's, for the scaler divides both."""
    models = [make_model(ABLATIONS[4], update=update) for _ in range(2)]
    for model, wrapper in zip(models, (OptimWrapper, ScalingOptimWrapper)):
        optimizer = make_optimizer(model, wrapper)
        for iteration, views in enumerate(make_views(2)):
            set_time(2 + iteration, 4, 2 + iteration, 4)
            model.train_step(dict(inputs=views), optimizer)
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters()):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f'{name}: {text}')


def test_float32_step_is_close_to_float64(set_time):
    values = []
    for dtype in (torch.float32, torch.float64):
        model = make_model(ABLATIONS[13], sampler=dict(dynamic=False)).to(dtype)
        set_time(1, 4, 1, 4)
        views = [view.to(dtype) for view in make_views(1)[0]]
        values.append(model.train_step(dict(inputs=views), make_optimizer(model))['loss_widest'].item())
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_checkpoint_without_teacher_starts_it_from_the_online_nets():
    source, target = make_model(ABLATIONS[13]), make_model(ABLATIONS[13])
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    state = {name: value for name, value in source.state_dict().items() if not name.startswith('teacher.')}
    target.load_state_dict(state, strict=True)
    for part in ('backbone', 'neck'):
        online, teacher = getattr(source, part).state_dict(), getattr(target.teacher, part).state_dict()
        assert online.keys() == teacher.keys()
        assert all(torch.equal(online[name], teacher[name]) for name in online)
