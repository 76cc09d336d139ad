"""A training whose loss is not finite stops, at the next check."""

import math
from types import SimpleNamespace

import pytest
import torch

from us3l_mm.engine import CheckInvalidLossHook
from us3l_mm.registry import HOOKS


def outputs(loss):
    return {'loss': torch.tensor(loss), 'loss_widest': torch.tensor(1.0), 'width_widest': 1.0, 'width_random': 1 / 3}


@pytest.mark.parametrize('loss', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('interval', [1, 3, 50])
def test_raises_every_so_many_iterations_only(loss, interval):
    hook = HOOKS.build(dict(type='us3l_mm.CheckInvalidLossHook', interval=interval))
    raised = []
    for iteration in range(1, 101):  # as users count
        runner = SimpleNamespace(iter=iteration - 1)  # as a Runner counts
        try:
            hook.after_train_iter(runner, batch_idx=0, outputs=outputs(loss))
        except RuntimeError as error:
            assert f'iteration {iteration} at widths 1, 0.333 is {loss};' in str(error)
            raised.append(iteration)
    assert raised == [iteration for iteration in range(1, 101) if iteration / interval == iteration // interval]


@pytest.mark.parametrize('loss', [0.0, -2.5, 1e30])
def test_is_silent_at_finite_losses(loss):
    for iteration in range(100):
        CheckInvalidLossHook().after_train_iter(SimpleNamespace(iter=iteration), 0, outputs=outputs(loss))


def test_checks_every_50_iterations_by_default_and_needs_no_widths():
    with pytest.raises(RuntimeError, match=r'loss of iteration 50 is nan; lower the learning rate.*bfloat16'):
        CheckInvalidLossHook().after_train_iter(SimpleNamespace(iter=49), 0, outputs=dict(loss=torch.tensor(math.nan)))
    CheckInvalidLossHook().after_train_iter(SimpleNamespace(iter=48), 0, outputs=dict(loss=torch.tensor(math.nan)))
