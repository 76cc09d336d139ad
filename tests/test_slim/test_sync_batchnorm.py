"""Synchronised batch norm in a group of one process; tests/test_models/test_multi_width/test_ddp.py has several."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import distributed, nn

from us3l_mm.slim import SlimmableBatchNorm2d, calibrate_bn
from us3l_mm.slim.batchnorm import _synchronised


@pytest.fixture
def group():
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize('shape', [(6, 8, 3, 5), (6, 8)])
@pytest.mark.parametrize('affine', [True, False])
def test_one_process_equals_batch_norm(shape, affine, group):
    weight, bias = (torch.rand(8, dtype=torch.float64) for _ in range(2)) if affine else (None, None)
    x = torch.randn(shape, dtype=torch.float64) * 2 + 3
    results = []
    for norm in (_synchronised, lambda x, w, b, eps: F.batch_norm(x, None, None, w, b, training=True, eps=eps)):
        x = x.detach().requires_grad_()
        y = norm(x, weight, bias, 1e-5)
        (y**3).sum().backward()
        results.append((y.detach(), x.grad))
    for got, expected in zip(*results):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_a_large_mean_does_not_cancel_in_float32(group):
    x = 300 + torch.randn(64, 2, 4, 4)
    expected = F.batch_norm(x.double(), None, None, training=True)
    torch.testing.assert_close(_synchronised(x, None, None, 1e-5).double(), expected, rtol=0, atol=1e-3)


def test_autocast_keeps_the_type_and_sums_in_float32(group):
    x = torch.randn(64, 8, 4, 4).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        y = _synchronised(x, torch.ones(8), None, 1e-5)
    assert y.dtype == torch.bfloat16
    expected = F.batch_norm(x.float(), None, None, training=True)
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)


def test_synchronisation_changes_nothing_else():
    """No key of the checkpoint, no statistics of calibration, nothing on one process."""
    images = torch.randn(4, 8, 3, 3)
    norms = [SlimmableBatchNorm2d(8, sync=sync) for sync in (False, True)]
    outputs = []
    for norm in norms:
        norm.train()
        trained = norm(images)
        calibrate_bn(norm, [1.0], [images])
        outputs.append((trained, norm.eval()(images)))
    assert all(torch.equal(a, b) for a, b in zip(*outputs))
    assert norms[0].state_dict().keys() == norms[1].state_dict().keys()


@pytest.mark.usefixtures('mmpretrain_scope')
def test_projector_takes_torchs_synchronised_norm():
    """Which needs GPUs as soon as there are several processes."""
    norm = dict(type='SyncBN', track_running_stats=False)
    neck = MODELS.build(
        dict(
            type='us3l_mm.SlimmableNonLinearNeck',
            in_channels=8,
            hid_channels=8,
            out_channels=4,
            norm_cfg=norm,
            num_layers=3,
        )
    )
    norms = [layer for layer in neck.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 3 and all(
        isinstance(layer, nn.SyncBatchNorm) and layer.running_mean is None for layer in norms
    )
    assert neck([torch.randn(4, 6, 2, 2)])[0].shape == (4, 4)
