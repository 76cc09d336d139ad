"""US3L's momentum network."""

import math

import pytest
import torch
from torch import nn

from builders import ABLATIONS, make_optimizer, make_us3l, make_views, us3l_cfg
from us3l_mm.models import US3L, MomentumTeacher

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


def test_init_weights_makes_the_teacher_equal_the_online_net():
    model = US3L(**us3l_cfg(ABLATIONS[13]))
    before = model.backbone.conv1.weight.detach().clone()
    model.init_weights()
    assert not torch.equal(model.backbone.conv1.weight, before)
    teacher = dict(model.teacher.named_parameters())
    online = {n: p for n, p in model.named_parameters() if n.startswith(('backbone', 'neck'))}
    assert teacher.keys() == online.keys()
    assert all(torch.equal(teacher[name], online[name]) for name in online)
    assert not {p.data_ptr() for p in teacher.values()} & {p.data_ptr() for p in online.values()}


def test_teacher_trains_no_parameters_but_is_in_training_mode(set_time):
    model = make_us3l(ABLATIONS[13])
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
    model = make_us3l(ABLATIONS[13])
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    set_time(3, 4, 3, 4)
    model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    after = dict(model.named_buffers())
    assert after.keys() == buffers.keys() and buffers
    assert all(torch.equal(after[name], buffers[name]) for name in buffers)
    assert not any(name.startswith('neck') for name in buffers)


@pytest.mark.parametrize('number', [2, 9])
def test_without_momentum_there_is_no_teacher(number):
    model = US3L(**us3l_cfg(ABLATIONS[number]))
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


def test_checkpoint_without_teacher_starts_it_from_the_online_nets():
    source, target = make_us3l(ABLATIONS[13]), make_us3l(ABLATIONS[13])
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    state = {name: value for name, value in source.state_dict().items() if not name.startswith('teacher.')}
    target.load_state_dict(state, strict=True)
    for part in ('backbone', 'neck'):
        online, teacher = getattr(source, part).state_dict(), getattr(target.teacher, part).state_dict()
        assert online.keys() == teacher.keys()
        assert all(torch.equal(online[name], teacher[name]) for name in online)
