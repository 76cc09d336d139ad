"""Which parameters each width of an iteration of US3L trains and regularises, and what it leaves behind."""

from contextlib import contextmanager

import pytest
import torch

from builders import ABLATIONS, DECAY, make_optimizer, make_us3l, make_views
from us3l_mm.slim import SlimmableLayer

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


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
    model = make_us3l(case, group_reg=group_reg, update=update, sampler=dict(dynamic=True))
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
    model = make_us3l(ABLATIONS[13])
    optimizer = make_optimizer(model)
    set_time(3, 4, 3, 4)
    model.train_step(dict(inputs=make_views(1)[0]), optimizer)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_width_comes_back_when_an_iteration_fails(set_time):
    model = make_us3l(ABLATIONS[13], sampler=dict(dynamic=False))
    set_time(0, 4, 0, 4)

    def fail(*_):
        raise FloatingPointError

    model.distill_loss.register_forward_pre_hook(fail)
    with pytest.raises(FloatingPointError):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    assert all(module.width == 1.0 for module in model.modules() if isinstance(module, SlimmableLayer))
