"""Compiled batch norms train the same weights, by kernels that serve all widths."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from builders import ABLATIONS, make_optimizer, make_us3l, make_views
from us3l_mm.slim import SlimmableBatchNorm2d, batchnorm, calibrate_bn, trace_channels, use_width

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('mmpretrain_scope')]


@pytest.fixture
def counter(monkeypatch):
    """Compile without a compiler, and count the graphs."""
    torch._dynamo.reset()
    found = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(F.batch_norm, dynamic=True, fullgraph=True, backend=found)
    monkeypatch.setattr(batchnorm, 'compiled_batch_norm', lambda: compiled)
    return found


def test_compiled_training_equals_plain_training_by_kernels_of_all_shapes(counter, set_time):
    sampler = dict(widths=(1.0, 0.75, 0.5), dynamic=False)
    plain, compiled = (make_us3l(ABLATIONS[17], sampler=sampler, speed=speed) for speed in ('eager', 'compiled'))
    compiled.speed = 'eager'  # the graphs, which need a GPU, are tested elsewhere
    for model in (plain, compiled):
        optimizer = make_optimizer(model)
        for iteration, views in enumerate(make_views(3)):
            set_time(iteration, 3, iteration, 3)
            model.train_step(dict(inputs=views), optimizer)
    for (name, a), b in zip(plain.named_parameters(), compiled.named_parameters()):
        torch.testing.assert_close(b[1], a, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f'{name}: {text}')
    layers = [layer for layer in compiled.modules() if isinstance(layer, SlimmableBatchNorm2d)]
    assert any(layer in layers for layer in compiled.teacher.modules())
    shapes = {layer.num_features for layer in layers}
    assert 0 < counter.frame_count <= 4 < len(shapes) * len(sampler['widths']) * 2


def test_other_uses_of_compiled_layers_are_not_compiled(counter):
    model = make_us3l(ABLATIONS[9], sampler=dict(widths=(1.0, 0.5)), speed='compiled')
    other = copy.deepcopy(model)
    trace_channels(model.backbone, 0.5)
    views = make_views(1)[0]
    calibrate_bn(other.backbone, (0.5,), views)
    with use_width(other.backbone.eval(), 0.5), torch.no_grad():
        other.backbone(views[0])
    assert counter.frame_count == 0
