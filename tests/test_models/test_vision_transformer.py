"""Slimmable Vision Transformer, against the stock one on masked inputs and against sliced weights by hand."""

import copy

import mmpretrain.models
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup.mocov3 import MoCoV3ViT
from torch import nn

from us3l_mm.deploy.costs import width_complexity
from us3l_mm.models import MomentumTeacher, SlimmableNonLinearNeck, SlimmableVisionTransformer
from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableLayer, slim_channels, to_dense, use_width

WIDTHS = [1.0, 0.83, 0.6, 0.41, 0.25]
ARCH = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)  # heads of 16 channels
TINY = dict(arch=ARCH, patch_size=4, img_size=16)


def build(**options):
    """Net whose weights are as if trained: no bias or class token is zero."""
    return randomise(MODELS.build(dict(type='us3l_mm.SlimmableVisionTransformer') | TINY | options))


def randomise(net):
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(0, 0.2).add_(1 if '.ln' in name and name.endswith('weight') else 0)
    return net


def images(dtype=torch.float32):
    return torch.randn(2, 3, 16, 16, dtype=dtype)


def stock_of(net, **options):
    stock = MoCoV3ViT(**TINY | options)
    stock.load_state_dict(net.state_dict(), strict=True)
    return stock.to(next(net.parameters()).dtype)


def mask_inputs(stock, width):
    """Zero the inputs that a block's linear layers must not read; all outputs are computed."""
    for layer in stock.layers:
        for linear in [m for m in layer.modules() if isinstance(m, nn.Linear)]:
            read = slim_channels(linear.in_features, width)
            linear.register_forward_pre_hook(
                lambda _, x, read=read: torch.cat([x[0][..., :read], torch.zeros_like(x[0][..., read:])], -1)
            )
    return stock


@pytest.mark.parametrize('width', WIDTHS)
def test_leaving_out_what_is_not_read_changes_nothing(width):
    """Features and gradients are those of the full net whose linear layers get masked inputs."""
    net = build().double()
    masked = mask_inputs(stock_of(net), width)
    x = images(torch.float64)
    with use_width(net, width):
        (got,) = net(x)
        got.square().sum().backward()
    (expected,) = masked(x)
    expected.square().sum().backward()
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    gradients = {name: parameter.grad for name, parameter in masked.named_parameters()}
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-8)


def class_token_by_hand(state, x, width):
    """The class token of the last layer, head by head, by plain functions on slices of the weights."""

    def norm(x, name):
        return F.layer_norm(x, (48,), state[f'{name}.weight'], state[f'{name}.bias'], eps=1e-6)

    def linear(x, name, rows, read):
        return x[..., :read] @ state[f'{name}.weight'][rows, :read].T + state[f'{name}.bias'][rows]

    read, hidden = slim_channels(48, width), slim_channels(96, width)
    weight, bias = (state[f'patch_embed.projection.{kind}'] for kind in ('weight', 'bias'))
    x = F.conv2d(x, weight, bias, stride=4).flatten(2).transpose(1, 2)
    x = torch.cat([state['cls_token'].expand(len(x), -1, -1), x], 1) + state['pos_embed']
    for layer in range(2):
        y = norm(x, f'layers.{layer}.ln1')
        heads = []
        for head in range(-(-read // 16)):
            q, k, v = (
                linear(y, f'layers.{layer}.attn.qkv', slice(48 * part + 16 * head, 48 * part + 16 * head + 16), read)
                for part in range(3)
            )
            heads.append((q @ k.transpose(1, 2) / 16**0.5).softmax(-1) @ v)
        x = x + linear(torch.cat(heads, -1), f'layers.{layer}.attn.proj', slice(48), read)
        y = F.gelu(linear(norm(x, f'layers.{layer}.ln2'), f'layers.{layer}.ffn.layers.0.0', slice(hidden), read))
        x = x + linear(y, f'layers.{layer}.ffn.layers.1', slice(48), hidden)
    return norm(x, 'ln1')[:, 0]


@pytest.mark.parametrize('width', WIDTHS)
def test_equals_sliced_weights_by_hand(width):
    net = build().double()
    x = images(torch.float64)
    with use_width(net, width), torch.no_grad():
        torch.testing.assert_close(net(x)[0], class_token_by_hand(net.state_dict(), x, width), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap', 'featmap', 'raw'])
def test_full_width_equals_the_stock_net_bit_for_bit(out_type):
    net = build(out_type=out_type)
    stock = stock_of(net, out_type=out_type)
    assert net.state_dict().keys() == stock.state_dict().keys()
    x = images()
    assert torch.equal(net(x)[0], stock(x)[0])
    assert net.out_channels == (48,)


def test_initial_weights_are_those_of_the_stock_net():
    states = []
    for kind in (SlimmableVisionTransformer, MoCoV3ViT):
        torch.manual_seed(3)
        net = kind(**TINY, stop_grad_conv1=True)
        net.init_weights()
        states.append(net.state_dict())
        frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
        assert frozen == {'pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias'}
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.parametrize(
    'arch, channels, heads, params', [('tiny', 192, 3, 5.5e6), ('small', 384, 12, 21.7e6), ('base', 768, 12, 85.8e6)]
)
def test_named_sizes(arch, channels, heads, params):
    with torch.device('meta'):
        net = SlimmableVisionTransformer(arch)
    assert net.out_channels == (channels,) and len(net.layers) == 12 and net.patch_resolution == (14, 14)
    assert net.layers[0].attn.num_heads == heads
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(params, rel=0.01)


@pytest.mark.parametrize('width', WIDTHS)
def test_dense_net_equals_the_slimmable_net(width):
    net = build(out_indices=[0, 1])
    dense = to_dense(net, width)
    assert not any(isinstance(layer, SlimmableLayer) for layer in dense.modules())
    assert dense.layers[0].attn.qkv.weight.shape == (
        3 * 16 * -(-slim_channels(48, width) // 16),
        slim_channels(48, width),
    )
    assert dense.layers[1].ffn.layers[0][0].out_features == slim_channels(96, width)
    x = images()
    with use_width(net, width):
        expected = net(x)
    for a, b in zip(dense(x), expected):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('width', WIDTHS)
def test_fixed_width_net_loaded_from_a_plain_checkpoint_equals_the_slimmable_net(width):
    stock = randomise(mmpretrain.models.VisionTransformer(**copy.deepcopy(TINY)))
    full, narrow = build(), build(width=width)
    for net in (full, narrow):
        net.load_state_dict(stock.state_dict(), strict=True)
    resumed = build(width=width)
    resumed.load_state_dict(narrow.state_dict(), strict=True)  # its own checkpoint
    x = images()
    with use_width(full, width):
        (expected,) = full(x)
    assert narrow.out_channels == (48,)
    torch.testing.assert_close(narrow(x)[0], expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(resumed(x)[0], narrow(x)[0])
    twin = copy.deepcopy(narrow)
    nn.init.zeros_(narrow.cls_token)
    assert torch.equal(twin(x)[0], resumed(x)[0])


def test_positions_are_resized_to_another_image_size():
    full, narrow = build(img_size=24), build(width=0.5, img_size=24)
    state = build().state_dict()
    full.load_state_dict(dict(state), strict=True)
    narrow.load_state_dict(dict(state), strict=True)
    x = torch.randn(2, 3, 24, 24)
    with use_width(full, 0.5):
        torch.testing.assert_close(narrow(x)[0], full(x)[0], rtol=1e-6, atol=1e-6)


def test_checkpoint_of_another_size_is_refused():
    state = MoCoV3ViT(**TINY | dict(arch=ARCH | dict(num_layers=3))).state_dict()
    for width in (None, 0.5):
        with pytest.raises(RuntimeError, match=r'does not fit SlimmableVisionTransformer: .* layers unknown'):
            build(width=width).load_state_dict(state)


def test_teacher_of_a_vit_can_be_switched():
    neck = SlimmableNonLinearNeck(48, 16, 8, num_layers=3, with_avg_pool=False)
    teacher = MomentumTeacher(build(), nn.SyncBatchNorm.convert_sync_batchnorm(neck))
    with use_width(teacher, 0.5):
        pass


def test_narrower_is_cheaper():
    net = build()
    costs = [width_complexity(net, width, (16, 16)) for width in WIDTHS]
    for key in ('params', 'macs'):
        values = [cost[key] for cost in costs]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
