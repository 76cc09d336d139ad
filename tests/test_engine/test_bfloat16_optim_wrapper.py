"""bfloat16 inside forward passes, float32 everywhere else."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import us3l_mm  # noqa: F401


def make():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    cfg = dict(type='us3l_mm.BFloat16OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    return net, build_optim_wrapper(net, cfg)


def test_forward_passes_run_in_bfloat16_and_weights_stay_float32():
    net, wrapper = make()
    with wrapper.optim_context(net):
        assert net[0](torch.randn(4, 8)).dtype == torch.bfloat16
        loss = net(torch.randn(4, 8)).square().mean()
    assert net[0](torch.randn(4, 8)).dtype == torch.float32
    wrapper.update_params(loss)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_update_is_near_that_of_float32():
    updates = []
    for half in (False, True):
        net, wrapper = make()
        before = [parameter.detach().clone() for parameter in net.parameters()]
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
        if half:
            with wrapper.optim_context(net):
                loss = (net(x).float() - x[:, :1]).square().mean()
        else:
            loss = (net(x) - x[:, :1]).square().mean()
        wrapper.update_params(loss)
        updates.append(torch.cat([(b - a).flatten() for a, b in zip(before, net.parameters())]).detach())
    error = (updates[1] - updates[0]).norm() / updates[0].norm()
    assert 0 < error < 0.02


def test_gradients_are_not_scaled():
    net, wrapper = make()
    with wrapper.optim_context(net):
        loss = net(torch.ones(4, 8)).sum()
    wrapper.backward(loss)
    assert net[3].bias.grad.item() == pytest.approx(4.0)
