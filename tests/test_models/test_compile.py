"""Compiled forward passes train the same weights, with one graph for each width and loss."""

from functools import partialmethod

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from builders import ABLATIONS, make_optimizer, make_us3l, make_views
from us3l_mm.models import US3L
from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures('mmpretrain_scope'),
    pytest.mark.skipif(not hasattr(torch.compiler, 'is_compiling'), reason='needs PyTorch 2.3'),
]
ITERATIONS = 6


@MODELS.register_module(force=True)
class TinyBackbone(nn.Module):
    """Two convolutions: graphs of a ResNet take minutes."""

    def __init__(self):
        super().__init__()
        self.conv1 = SlimmableConv2d(3, 16, 3)
        self.bn1 = SlimmableBatchNorm2d(16)
        self.conv2 = SlimmableConv2d(16, 32, 3)

    def forward(self, x):
        return (self.conv2(self.bn1(self.conv1(x)).relu()).mean((2, 3)),)


def make_model(**options):
    torch.manual_seed(0)
    neck = dict(in_channels=8, hid_channels=8, out_channels=8, num_layers=2, with_avg_pool=False, with_last_bn=False)
    return US3L(
        backbone=dict(type='us3l_mm.TinyBackbone'),
        neck=dict(type='us3l_mm.SlimmableNonLinearNeck', **{**neck, 'in_channels': 32}),
        head=dict(
            type='LatentPredictHead',
            loss=dict(type='us3l_mm.NTXentLoss'),
            predictor=dict(type='torch.nn.Identity'),
        ),
        distill_loss=dict(type='CosineSimilarityLoss'),
        distill_predictor=dict(type='NonLinearNeck', **neck),
        group_reg=dict(),
        data_preprocessor=dict(type='mmengine.BaseDataPreprocessor'),
        **options,
    )


def train(model, set_time):
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    generator = torch.Generator().manual_seed(1)
    widths = []
    for iteration in range(ITERATIONS):
        set_time(iteration, ITERATIONS, iteration, ITERATIONS)
        widths.append(model.sampler(iteration, iteration, ITERATIONS))
        views = [torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2)]
        model.train_step(dict(inputs=views), optimizer)
    return widths


def test_compiled_training_equals_plain_training_and_uses_its_graphs_again(set_time, monkeypatch):
    sampler = dict(width_step=0.25, num_stages=2)
    plain = make_model(sampler=sampler)
    widths = train(plain, set_time)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend('aot_eager')
    monkeypatch.setattr(nn.Module, 'compile', partialmethod(nn.Module.compile, backend=counter, fullgraph=True))
    compiled = make_model(sampler=sampler, speed='compiled')
    train(compiled, set_time)
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters()):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: f'{name}: {text}')
    passes = sum(map(len, widths)) + ITERATIONS  # those of the teacher, too
    drawn = {width for drawn in widths for width in drawn}
    assert {1.0, 0.25} < drawn <= {1.0, 0.75, 0.5, 0.25}
    assert counter.frame_count <= len(drawn) + 2 < passes  # a graph for each width, those of the teacher
    graphs = counter.frame_count
    train(compiled, set_time)
    assert counter.frame_count == graphs


def test_keys_are_those_of_the_plain_model():
    plain, compiled = make_model(), make_model(sampler=dict(widths=[1.0, 0.5]), speed='compiled')
    assert plain.state_dict().keys() == compiled.state_dict().keys()


@pytest.mark.parametrize('number', [4, 16])
def test_limit_of_graphs_allows_for_all_widths(number):
    step = 0.75 / (number - 1)
    torch._dynamo.config.cache_size_limit = 8
    model = make_model(sampler=dict(width_step=step, dynamic=False), speed='compiled')
    assert model.sampler.count == number
    assert torch._dynamo.config.cache_size_limit >= number


@pytest.mark.gpu
def test_compiled_graphs_train_the_same_weights_on_a_gpu(set_time):
    """In float64; the default backend, captured and replayed."""
    sampler = dict(widths=(1.0, 0.5), dynamic=False)
    models = [make_us3l(ABLATIONS[17], sampler=sampler, speed=speed).cuda() for speed in ('eager', 'compiled')]
    for model in models:
        optimizer = make_optimizer(model)
        for iteration, views in enumerate(make_views(4)):
            set_time(iteration, 4, iteration, 4)
            model.train_step(dict(inputs=[view.cuda() for view in views]), optimizer)
    assert models[1].graphs is not None
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters()):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f'{name}: {text}')
