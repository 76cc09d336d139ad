"""What an iteration of US3L logs, and that it reads no value for that."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from builders import ABLATIONS, make_optimizer, make_us3l, make_views
from us3l_mm.models.algorithms.us3l import feature_std

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


def test_penalty_is_logged_every_few_iterations_and_applied_in_all(set_time):
    """At 1 and at 3 no line is written, but weights without gradient of the loss shrink all the same."""
    models = [make_us3l(ABLATIONS[13], group_reg=group_reg) for group_reg in (False, True)]
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
    model = make_us3l(ABLATIONS[number])
    optimizer = make_optimizer(model)
    with NoReading(), pytest.raises(AssertionError, match='reads a value'):
        torch.ones(1).item()
    for iteration, views in enumerate(make_views(2)):
        set_time(iteration, 8, 3, 4)
        with NoReading():
            model.train_step(dict(inputs=views), optimizer)


@pytest.mark.parametrize('num_widths, roles', [(2, {'widest', 'narrowest'}), (4, {'widest', 'narrowest', 'random'})])
def test_logged_values(num_widths, roles, set_time):
    model = make_us3l(ABLATIONS[13], sampler=dict(num_widths=num_widths))
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
    model = make_us3l(ABLATIONS[13], group_reg=False)
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
