"""Backbones built from arguments as they stand in configs of mmdet and mmpretrain."""

import copy
import logging

import mmdet.models
import mmpretrain.models
import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.models.selfsup.mocov3 import MoCoV3ViT
from torch import nn

from us3l_mm.models import SlimmableResLayer, SlimmableResNet, SlimmableResNeXt, SlimmableVisionTransformer
from us3l_mm.models.backbones.stock_mmdet import SlimmableHRNet
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d, SwitchableBatchNorm2d, calibrate_bn, use_width

SMALL = dict(depth=18, stem_channels=16, base_channels=16)
STAGES = (0, 1, 2, 3)
FROZEN = dict(norm_eval=dict(norm_eval=True), stages=dict(frozen_stages=1), both=dict(norm_eval=True, frozen_stages=2))


def images(n=2):
    return torch.randn(n, 3, 32, 32)


def randomise(net):
    """Weights and statistics as if trained."""
    for name, tensor in net.state_dict().items():
        if name.endswith('running_mean'):
            tensor.normal_(0, 0.1)
        elif tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return net


@pytest.fixture
def log(monkeypatch):
    """Lines that are logged."""
    lines = []
    logger = MMLogger.get_instance('test', log_level='INFO')
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    return lines


# Layers


@pytest.mark.parametrize('kind', ['BN', 'BN2d', 'SyncBN', nn.BatchNorm2d, nn.SyncBatchNorm])
def test_plain_norm_becomes_ours_with_its_options(kind, log):
    net = SlimmableResNet(norm_cfg=dict(type=kind, requires_grad=False, eps=1e-3, momentum=0.03), **SMALL)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert norms and {type(norm) for norm in norms} == {SlimmableBatchNorm2d}
    assert {(norm.eps, norm.momentum, norm.weight.requires_grad) for norm in norms} == {(1e-3, 0.03, False)}
    assert {norm.sync for norm in norms} == {kind in ('SyncBN', nn.SyncBatchNorm)}
    assert 'us3l_mm.SlimmableBatchNorm2d' in log[0] and 'norm_cfg' in log[0]


@pytest.mark.parametrize('kind', ['BN', 'SyncBN'])
@pytest.mark.parametrize('width', [1.0, 0.5])
def test_at_a_fixed_width_the_norms_are_those_that_the_config_names(kind, width):
    """Torch's SyncBN would synchronise GPUs, and ours that is dense did not."""
    net = SlimmableResNet(width=width, norm_cfg=dict(type=kind, momentum=0.03), **SMALL)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    expected = nn.SyncBatchNorm if kind == 'SyncBN' else nn.BatchNorm2d
    assert {(type(norm), norm.momentum) for norm in norms} == {(expected, 0.03)}
    net.train()(images())[-1].sum().backward()


@pytest.mark.parametrize('width', [None, 1.0])
def test_training_with_a_stock_norm_is_that_of_the_stock_net(width):
    options = dict(norm_cfg=dict(type='BN', requires_grad=True), conv_cfg=dict(type='Conv'), **SMALL)
    ours, stock = SlimmableResNet(width=width, **options), mmpretrain.models.ResNet(**options)
    stock = randomise(stock)
    ours.load_state_dict(stock.state_dict(), strict=True)
    x = images()
    for net in (ours, stock):
        net.train()
        net(x)[0].square().sum().backward()
    expected = dict(stock.named_parameters())
    assert all(torch.equal(parameter.grad, expected[name].grad) for name, parameter in ours.named_parameters())


@pytest.mark.parametrize('kind', [None, 'Conv', 'Conv2d', nn.Conv2d])
def test_plain_convolution_becomes_ours(kind):
    net = SlimmableResNet(conv_cfg=kind and dict(type=kind), **SMALL)
    assert type(net.conv1) is SlimmableConv2d


@pytest.mark.parametrize('width', [None, 1.0, 0.5])
@pytest.mark.parametrize(
    ('name', 'layer', 'message'),
    [
        ('norm_cfg', dict(type='GN', num_groups=4), r'norm_cfg=.*GN.* cannot follow a width: GroupNorm takes'),
        ('norm_cfg', dict(type='LN'), 'LayerNorm takes its full number'),
        ('norm_cfg', dict(type='IN'), "InstanceNorm2d takes .*'us3l_mm.SlimmableBatchNorm2d'"),
        ('norm_cfg', dict(type='BN1d'), 'BatchNorm1d takes'),
        ('norm_cfg', dict(type='MMSyncBN'), 'MMSyncBN'),
        ('norm_cfg', dict(type='NB'), "norm_cfg={'type': 'NB'} names no registered layer; check the spelling"),
        ('conv_cfg', dict(type='ConvWS'), r"conv_cfg=.*ConvWS.* cannot follow a width.*'us3l_mm.SlimmableConv2d'"),
        ('conv_cfg', dict(type='DCNv2', deform_groups=1), 'conv_cfg=.*DCNv2.* cannot follow a width'),
        ('conv_cfg', dict(type='BN'), 'conv_cfg=.* cannot follow a width'),
    ],
)
def test_layers_that_cannot_be_sliced_are_refused_by_name(name, layer, message, width):
    with pytest.raises(ValueError, match=message):
        SlimmableResNet(width=width, **{name: layer}, **SMALL)


def test_slimmable_layers_stand_as_they_are(log):
    net = SlimmableResNet(norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=(0.5,)), **SMALL)
    assert type(net.bn1) is SwitchableBatchNorm2d and log == []


# Names of mmdet


def test_what_mmdet_names_without_asking_for_it_is_dropped():
    net = SlimmableResNet(
        dcn=None, plugins=None, pretrained=None, stage_with_dcn=(False, False, False, False), with_cp=False, **SMALL
    )
    assert net.out_channels == (128,)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(dcn=dict(type='DCNv2', deform_groups=1), stage_with_dcn=(False, True, True, True)), 'has no dcn: deform'),
        (dict(plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 16), position='after_conv3')]), 'has no plugins'),
        (dict(pretrained='a.pth', init_cfg=dict(type='Pretrained', checkpoint='b.pth')), "pretrained='a.pth' and init"),
    ],
)
def test_what_mmdet_has_and_this_net_cannot_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SlimmableResNet(**options, **SMALL)


def test_pretrained_is_loaded_as_mmdet_does(tmp_path):
    stock = randomise(mmdet.models.ResNet(**SMALL))
    torch.save(stock.state_dict(), tmp_path / 'r18.pth')
    net = SlimmableResNet(pretrained=str(tmp_path / 'r18.pth'), norm_cfg=dict(type='BN'), **SMALL)
    net.init_weights()
    assert all(torch.equal(tensor, stock.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_mmdets_arguments_of_a_resnet_give_mmdets_net():
    options = dict(
        depth=50,
        base_channels=8,
        stem_channels=8,
        out_indices=STAGES,
        style='caffe',
        norm_eval=True,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
    )
    stock = randomise(mmdet.models.ResNet(**options))
    for width in (None, 1.0):
        net = SlimmableResNet(width=width, **options)
        net.load_state_dict(stock.state_dict(), strict=True)
        x = images()
        for mode in (True, False):
            stock.train(mode)
            assert all(torch.equal(a, b) for a, b in zip(net.train(mode)(x), stock(x), strict=True))


def test_groups_of_a_resnext_by_mmdets_name():
    options = dict(depth=50, groups=4, base_channels=16, stem_channels=16, out_indices=STAGES, norm_eval=False)
    stock = randomise(mmdet.models.ResNeXt(base_width=8, **options))
    net = SlimmableResNeXt(base_width=8, **options)
    net.load_state_dict(stock.state_dict(), strict=True)
    x = images()
    stock.eval()
    assert all(torch.equal(a, b) for a, b in zip(net.eval()(x), stock(x), strict=True))


# Batch norm that is in evaluation mode while the net trains


@pytest.mark.parametrize('options', FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize('width', [None, 1.0])
def test_new_net_with_frozen_norms_trains_as_the_stock_one(width, options):
    """The stock net normalises by its initial zeros and ones."""
    ours = SlimmableResNet(width=width, **options, **SMALL)
    stock = mmpretrain.models.ResNet(**options, **SMALL)
    with torch.no_grad():
        for a, b in zip(ours.parameters(), stock.parameters(), strict=True):
            b.copy_(a)
    x = images()
    for net in (ours, stock):
        net.train()
        net(x)[0].square().sum().backward()
    for a, b in zip(ours.parameters(), stock.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad)


@pytest.mark.parametrize('width', [None, 1.0, 0.5])
def test_a_checkpoint_of_such_a_training_is_tested_and_resumed(width):
    net, twin = (SlimmableResNet(width=width, norm_eval=True, **SMALL) for _ in range(2))
    net.train()
    twin.load_state_dict(net.state_dict(), strict=True)
    x = images()
    for mode in (False, True):
        assert torch.equal(twin.train(mode)(x)[0], net.train(mode)(x)[0])


@pytest.mark.parametrize('options', FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize('width', [None, 1.0, 0.5])
def test_pretraining_that_is_not_calibrated_is_refused_there(width, options):
    """Its zeros and ones are no statistics, though they look like those of a new net."""
    state = randomise_weights(SlimmableResNet(**SMALL)).state_dict()
    net = SlimmableResNet(width=width, **options, **SMALL)
    with pytest.raises(RuntimeError, match=r'no (batch-norm )?statistics for width .*us3l calibrate'):
        net.load_state_dict(state)
        net.train()(images())


def randomise_weights(net):
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net


@pytest.mark.parametrize('options', FROZEN.values(), ids=FROZEN)
def test_narrow_widths_of_frozen_norms_need_statistics_and_the_error_says_why(options):
    net = SlimmableResNet(**options, **SMALL)
    net.load_state_dict(randomise(mmpretrain.models.ResNet(**SMALL)).state_dict())
    net.train()
    net(images())
    message = (
        r'no statistics for width 0.5 \(calibrated: 1\), by which norm_eval or frozen_stages of the backbone lets it '
        r'train. Set norm_eval=False and frozen_stages=-1, or measure them by `us3l calibrate'
    )
    with use_width(net, 0.5), pytest.raises(RuntimeError, match=message):
        net(images())


def test_frozen_norms_train_by_the_calibrated_statistics_of_each_width():
    net = randomise_weights(SlimmableResNet(norm_eval=True, **SMALL))
    calibrate_bn(net, [1.0, 0.5], [images(4)])
    net.train()
    x = images()
    with use_width(net, 0.5):
        got = net(x)[0]
        assert torch.equal(got, copy.deepcopy(net).eval()(x)[0])
    torch.testing.assert_close(got, net.dense(0.5).train()(x)[0], rtol=1e-5, atol=1e-5)


def test_norms_that_thaw_lose_the_initial_statistics():
    """They were right only as long as nothing was normalised by a batch."""
    net = SlimmableResNet(norm_eval=True, **SMALL)
    net.norm_eval = False
    net.train()(images())
    with pytest.raises(RuntimeError, match='no statistics for width 1'):
        net.eval()(images())


def test_new_net_that_is_not_frozen_is_still_refused_in_evaluation():
    with pytest.raises(RuntimeError, match=r'no statistics for width 1 .*`width` of the backbone'):
        SlimmableResNet(**SMALL).eval()(images())


# Names of sizes


@pytest.mark.parametrize(
    ('arch', 'channels', 'heads', 'layers'),
    [
        ('b', 768, 12, 12),
        ('base', 768, 12, 12),
        ('l', 1024, 16, 24),
        ('deit-t', 192, 3, 12),
        ('deit-s', 384, 6, 12),
        ('deit-small', 384, 6, 12),
        ('dinov2-s', 384, 6, 12),
        ('mocov3-small', 384, 12, 12),
        ('small', 384, 12, 12),
    ],
)
def test_names_of_vits_are_mmpretrains(arch, channels, heads, layers):
    with torch.device('meta'):
        net = SlimmableVisionTransformer(arch)
        if arch != 'small':  # ours, MoCo v3's
            stock = MoCoV3ViT(arch=arch, patch_size=16)
            assert stock.layers[0].attn.num_heads == heads and stock.num_layers == layers
    assert (net.embed_dims, net.layers[0].attn.num_heads, net.num_layers) == (channels, heads, layers)


@pytest.mark.parametrize('arch', ['s', 'S', 'tinny'])
def test_ambiguous_and_unknown_names_of_vits_are_refused(arch):
    with pytest.raises(ValueError, match=rf"got '{arch}'; 's' is .*12 heads \('mocov3-small'\).*6 \('deit-small'\)"):
        SlimmableVisionTransformer(arch)


def test_ffn_that_cannot_be_sliced_is_refused():
    arch = dict(embed_dims=48, num_layers=1, num_heads=3, feedforward_channels=96)
    with pytest.raises(ValueError, match="layer_cfgs gives SwiGLUFFNFused, which .* use ffn_type='origin'"):
        SlimmableVisionTransformer(arch, img_size=16, patch_size=4, layer_cfgs=dict(ffn_type='swiglu_fused'))


@pytest.fixture(scope='module')
def positions():
    """State dicts of three layers' nets of 384 channels: DeiT's with learnt positions, MoCo v3's at two sizes."""
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.model.base_module.BaseModule._dump_init_info', lambda *_: None)
        deit = mmpretrain.models.VisionTransformer('deit-small', img_size=64)
        moco = MoCoV3ViT(arch='mocov3-small', patch_size=16, img_size=64)
        for net in (deit, moco):
            net.init_weights()
        resized = MoCoV3ViT(arch='mocov3-small', patch_size=16, img_size=160)
        resized.load_state_dict(moco.state_dict())
    return {'deit': deit.state_dict(), 'moco': moco.state_dict(), 'resized': resized.state_dict()}


@pytest.mark.parametrize('width', [None, 0.5])
@pytest.mark.parametrize('size', [64, 128])
def test_deits_small_net_is_refused_in_one_of_12_heads(positions, size, width):
    for arch in ('small', 'mocov3-small'):
        net = SlimmableVisionTransformer(arch, img_size=size, width=width)
        with pytest.raises(RuntimeError, match="learnt positions.* 6 heads and not 12. Set arch='deit-small'"):
            net.load_state_dict(dict(positions['deit']))
        for name in ('moco', 'resized'):
            net.load_state_dict(dict(positions[name]))
    SlimmableVisionTransformer('deit-small', img_size=size, width=width).load_state_dict(dict(positions['deit']))


def test_deits_small_net_computes_what_mmpretrains_does(positions):
    stock = mmpretrain.models.VisionTransformer('deit-small', img_size=64)
    ours = SlimmableVisionTransformer('deit-small', img_size=64)
    for net in (stock, ours):
        net.load_state_dict(dict(positions['deit']), strict=True)
    x = torch.randn(2, 3, 64, 64)
    stock.eval()
    assert torch.equal(stock(x)[0], ours.eval()(x)[0])


@pytest.mark.parametrize('option, value, only', [('stage', 2, 3), ('stride', 1, 2), ('dilation', 2, 1)])
def test_shared_head_of_another_stage_is_refused(option, value, only):
    with pytest.raises(ValueError, match=f'{option} .* {only}, got {value}'):
        SlimmableResLayer(width=0.5, norm_cfg=dict(type='BN'), **SMALL, **{option: value})


def test_shared_head_with_norm_eval_trains_by_its_stored_statistics():
    head = randomise(SlimmableResLayer(width=0.5, norm_eval=True, stage=3, **SMALL))
    x = torch.randn(2, 32, 8, 8)
    expected = head.eval().layer4(x)
    torch.testing.assert_close(head.train().layer4(x), expected)
    assert head.training and head.norm.training


def test_hrnet_by_mmpretrains_name_is_mmpretrains(monkeypatch):
    tiny = [
        [1, 1, 'BOTTLENECK', (1,), (16,)],
        [1, 2, 'BASIC', (1, 1), (2, 4)],
        [1, 3, 'BASIC', (1, 1, 1), (2, 4, 8)],
        [1, 4, 'BASIC', (1, 1, 1, 1), (2, 4, 8, 16)],
    ]
    monkeypatch.setitem(mmpretrain.models.HRNet.arch_zoo, 'w18', tiny)
    stock, ours = randomise(mmpretrain.models.HRNet(arch='w18')), SlimmableHRNet(arch='w18')
    ours.load_state_dict(stock.state_dict(), strict=True)
    x = images()
    for mode in (False, True):  # training drops the statistics
        stock.train(mode)
        assert all(torch.equal(a, b) for a, b in zip(ours.train(mode)(x), stock(x), strict=True))


@pytest.mark.parametrize('options', [{}, dict(arch='w19'), dict(arch='w18', extra={})])
def test_hrnet_needs_one_of_two_descriptions(options):
    with pytest.raises(ValueError, match=r"HRNet needs either extra or an arch of \['w18', 'w30'"):
        SlimmableHRNet(**options)
