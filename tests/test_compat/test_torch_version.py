"""mmengine's batch norm in a compiled graph."""

import copy

import pytest
import torch
from mmengine.utils.dl_utils import parrots_wrapper


def test_mmengine_compares_a_plain_string():
    assert type(parrots_wrapper.TORCH_VERSION) is str and torch.__version__ == parrots_wrapper.TORCH_VERSION


@pytest.mark.slow
def test_sync_batch_norm_is_traced_whole():
    norm = parrots_wrapper.SyncBatchNorm(4)
    x = torch.randn(2, 4, 3, 3)
    expected = copy.deepcopy(norm)(x)
    assert torch.equal(torch.compile(norm, backend='eager', fullgraph=True)(x), expected)
