"""Other ways to the same numbers: activation checkpointing, autocast, loss scaling, float32."""

from contextlib import contextmanager

import pytest
import torch
from mmengine.optim import OptimWrapper

from builders import ABLATIONS, ScalingOptimWrapper, make_optimizer, make_us3l, make_views

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


@pytest.mark.filterwarnings('ignore:torch.utils.checkpoint:UserWarning')
def test_activation_checkpointing_changes_nothing(set_time):
    """The backward pass runs the forward again, which must happen at the same width."""
    models = [make_us3l(ABLATIONS[13], backbone=dict(with_cp=with_cp)) for with_cp in (False, True)]
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
        model = make_us3l(ABLATIONS[number], sampler=dict(dynamic=False)).float()
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


@pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='needs a loss scale on a CPU, of PyTorch 2.3')
@pytest.mark.parametrize('update', ['per_width', 'accumulate'])
def test_loss_scaling_changes_nothing(update, set_time):
    """The penalty's gradient must be scaled like the loss's, for the scaler divides both."""
    models = [make_us3l(ABLATIONS[4], update=update) for _ in range(2)]
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
        model = make_us3l(ABLATIONS[13], sampler=dict(dynamic=False)).to(dtype)
        set_time(1, 4, 1, 4)
        views = [view.to(dtype) for view in make_views(1)[0]]
        values.append(model.train_step(dict(inputs=views), make_optimizer(model))['loss_widest'].item())
    assert values[0] == pytest.approx(values[1], rel=1e-4)
