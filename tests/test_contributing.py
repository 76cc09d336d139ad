"""The examples of CONTRIBUTING.md: they run as they stand, and do what the page says of them."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper
from mmpretrain.models import VGG
from torch.nn.modules.batchnorm import _BatchNorm

from us3l_mm.models import US3L
from us3l_mm.registry import MODELS, TASK_UTILS
from us3l_mm.slim import WidthSampler, calibrate_bn, is_aligned, to_dense, use_width

PAGE = Path(__file__).parents[1] / 'CONTRIBUTING.md'
BLOCKS = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


@pytest.fixture(scope='module')
def page():
    """Names that the blocks of the page define, run in its order; what they register is forgotten afterwards."""
    registries = (MODELS, TASK_UTILS)
    MODELS.get('us3l_mm.US3L')  # ours are registered before the copy is taken
    before = [dict(registry.module_dict) for registry in registries]
    names = {'__name__': 'contributing'}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f'{PAGE.name}, block {number}', 'exec'), names)
    yield names
    for registry, known in zip(registries, before):
        registry.module_dict.clear()
        registry.module_dict.update(known)


def test_each_example_has_under_40_lines():
    assert len(BLOCKS) == 6 and all(block.count('\n') < 40 for block in BLOCKS)


# The backbone


def make_vgg(page, norms_train=True, **kwargs):
    """Backbone of the page in float64, every parameter random, with batch statistics or in evaluation mode."""
    net = MODELS.build({**page['backbone'], **kwargs}).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.1)
    for layer in net.modules():
        layer.training = norms_train and isinstance(layer, _BatchNorm)
    return net


def images(count=2):
    return torch.randn(count, 3, 32, 32, dtype=torch.float64)


def test_full_width_equals_the_stock_net(page):
    net, plain = make_vgg(page), VGG(depth=11, norm_cfg=dict(type='BN')).double()
    plain.load_state_dict(net.state_dict())
    x = images()
    plain.train()
    assert torch.equal(net(x)[0], plain(x)[0])


def test_half_width_equals_its_dense_net(page):
    net = make_vgg(page, norms_train=False)
    calibrate_bn(net, [0.5], [images(4)])
    x = images()
    with use_width(net, 0.5):
        (got,) = net(x)
    (expected,) = to_dense(net, 0.5)(x)
    assert got.shape[1] == expected.shape[1] == 256
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('width', [0.5, 0.3])
def test_the_narrow_net_is_the_first_channels_of_the_wide_one(page, width):
    assert is_aligned(make_vgg(page), images(), width)


def test_a_fixed_width_is_a_plain_net(page):
    assert MODELS.build({**page['backbone'], 'width': 0.5}).out_channels == (256,)


# The loss


def test_the_loss_matches_loops(page):
    s, t = torch.randn(2, 6, 3, dtype=torch.float64)
    expected = 0.0
    for i in range(3):
        for j in range(3):
            a, b = s[:, i] - s[:, i].mean(), t[:, j] - t[:, j].mean()
            c = (a * b).mean() / ((a.square().mean() + 1e-5) * (b.square().mean() + 1e-5)).sqrt()
            expected += (1 - c) ** 2 if i == j else 5e-3 * c**2
    torch.testing.assert_close(page['barlow_twins'](s, t), expected)


def test_no_gradient_reaches_the_target(page):
    s, t = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    page['BarlowTwinsLoss']()(s, t).backward()
    assert s.grad.any() and t.grad is None


# The sampler, and US3L with both


def tiny_us3l(page, **options):
    return US3L(
        data_preprocessor=BaseDataPreprocessor(),
        backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16),
        neck=dict(
            type='us3l_mm.SlimmableNonLinearNeck', in_channels=128, hid_channels=16, out_channels=8, with_last_bn=False
        ),
        head=page['head'],
        distill_loss=dict(type='CosineSimilarityLoss'),
        **options,
    ).train()


def train_step(model, iteration=3):
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    return model.train_step(dict(inputs=[torch.randn(4, 3, 8, 8) for _ in range(2)]), optimizer)


def test_an_iteration_with_the_loss_changes_every_weight(page, set_time):
    model = tiny_us3l(page, sampler=dict(dynamic=False))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    set_time(0, 4, 0, 4)
    logs = train_step(model)
    assert torch.isfinite(logs['loss'])
    still = [n for n, p in model.named_parameters() if n.startswith(('backbone', 'neck')) and torch.equal(p, before[n])]
    assert not still


def test_draws_are_a_function_of_the_iteration(page):
    sampler, resumed = (TASK_UTILS.build({**page['sampler'], 'dynamic': True}) for _ in range(2))
    for iteration in range(8):
        widths = sampler(iteration, iteration // 2, 4)
        assert widths == sorted(set(widths), reverse=True) == resumed(iteration, iteration // 2, 4)
        assert all(0.25 <= width <= 1 for width in widths)
    assert sampler(0, 0, 4) == [1.0]  # the first stage


@pytest.mark.parametrize('iteration, between', [(2, 0.75), (3, 0.5)])
def test_an_iteration_trains_the_widths_of_the_sampler(page, set_time, iteration, between):
    model = tiny_us3l(page, sampler=page['sampler'])
    set_time(iteration, 4, iteration, 4)
    seen = []
    model.backbone.conv1.register_forward_hook(lambda layer, *_: seen.append(layer.width))
    logs = train_step(model)
    assert seen == [1.0] * 2 + [between] * 2 + [0.25] * 2  # two views
    assert [logs[f'width_{role}'] for role in ('widest', 'random', 'narrowest')] == [1.0, between, 0.25]


def test_without_a_type_the_sampler_is_that_of_us3l(page):
    assert type(tiny_us3l(page, sampler=None).sampler) is WidthSampler
    sampler = tiny_us3l(page, sampler=dict(num_widths=5)).sampler
    assert type(sampler) is WidthSampler and sampler.num_widths == 5


def test_an_unknown_sampler_is_an_error(page):
    with pytest.raises(KeyError, match='us3l_mm.NoSampler is not in'):
        tiny_us3l(page, sampler=dict(type='us3l_mm.NoSampler'))
