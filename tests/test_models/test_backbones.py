"""Slimmable ResNets: the stock ones at full width, and narrow nets cut out of their checkpoints."""

import copy

import mmdet.models
import mmpretrain.models
import pytest
import torch
import torchvision
from mmengine.runner import load_checkpoint
from torch import nn

from us3l_mm.models import SlimmableResNet, SlimmableResNet_CIFAR
from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableLayer, calibrate_bn, slim_channels, use_width

SMALL = dict(stem_channels=16, base_channels=16)
STAGES = (0, 1, 2, 3)
PAIRS = {
    'R18': (SlimmableResNet, mmpretrain.models.ResNet, 18),
    'R50': (SlimmableResNet, mmpretrain.models.ResNet, 50),
    'CIFAR R18': (SlimmableResNet_CIFAR, mmpretrain.models.ResNet_CIFAR, 18),
}


def randomise(net):
    """Weights and statistics as if trained."""
    for name, tensor in net.state_dict().items():
        if name.endswith('running_mean'):
            tensor.normal_(0, 0.1)
        elif tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return net


def images(n=2, size=32):
    return torch.randn(n, 3, size, size)


def calibrated_net(widths=(1.0, 0.5), kind=SlimmableResNet, depth=18, **options):
    net = kind(depth=depth, out_indices=STAGES, **SMALL | options)
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    calibrate_bn(net, widths, [images(4) for _ in range(2)])
    net.eval()
    return net


def build(**options):
    return MODELS.build(dict(type='us3l_mm.SlimmableResNet', depth=18, out_indices=STAGES, **SMALL) | options)


def assert_same_features(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max().item())


# Full width


@pytest.mark.parametrize('pair', PAIRS)
def test_full_width_equals_plain_resnet(pair):
    slimmable, plain, depth = PAIRS[pair]
    ours, stock = slimmable(depth, out_indices=STAGES, **SMALL), plain(depth, out_indices=STAGES, **SMALL)
    ours.load_state_dict(randomise(stock).state_dict(), strict=True)
    x = images()
    for mode in (False, True):
        ours.train(mode)
        stock.train(mode)
        for a, b in zip(ours(x), stock(x)):
            assert torch.equal(a, b)


def test_full_width_gradient_equals_plain_resnet():
    ours, stock = SlimmableResNet(18, **SMALL), mmpretrain.models.ResNet(18, **SMALL)
    ours.load_state_dict(stock.state_dict())
    x = images()
    for net in (ours, stock):
        net(x)[0].square().sum().backward()
    expected = dict(stock.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter.grad, expected[name].grad), name


@pytest.mark.parametrize('pair', PAIRS)
def test_initial_weights_are_those_of_the_plain_resnet(pair):
    slimmable, plain, depth = PAIRS[pair]
    states = []
    for kind in (slimmable, plain):
        torch.manual_seed(3)
        net = kind(depth, **SMALL)
        net.init_weights()
        states.append(net.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


STOCK = {
    'mmpretrain': lambda depth: mmpretrain.models.ResNet(depth),
    'mmdet': lambda depth: mmdet.models.ResNet(depth),
    'torchvision': lambda depth: getattr(torchvision.models, f'resnet{depth}')(),
}


@pytest.mark.parametrize('stock', STOCK)
@pytest.mark.parametrize('depth', [18, 50])
def test_checkpoints_fit_both_ways(depth, stock):
    ours, theirs = SlimmableResNet(depth), randomise(STOCK[stock](depth))
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith('fc.')}
    assert ours.state_dict().keys() == state.keys()
    ours.load_state_dict(state, strict=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    other = STOCK[stock](depth)
    missing, unexpected = other.load_state_dict(ours.state_dict(), strict=False)
    assert not unexpected and all(name.startswith('fc.') for name in missing)
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items() if name in state)


def test_full_width_evaluation_agrees_with_torchvision():
    theirs = randomise(torchvision.models.resnet18()).eval()
    ours = SlimmableResNet(18)
    ours.load_state_dict({n: t for n, t in theirs.state_dict().items() if not n.startswith('fc.')})
    ours.eval()
    x = images(1)
    torch.testing.assert_close(theirs.fc(ours(x)[0].mean((2, 3))), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('width', [0.25, 0.5, 0.73])
def test_narrow_widths_have_the_channels_of_the_rounding_rule(width):
    for net, factor in ((SlimmableResNet(18, out_indices=STAGES, **SMALL), 1), (build(depth=50), 4)):
        with use_width(net, width):
            got = [feature.size(1) for feature in net(images())]
        assert got == [slim_channels(16 * factor * 2**i, width) for i in range(4)]


@pytest.mark.parametrize('depth, blocks', [(34, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_other_depths_have_the_stock_keys(depth, blocks):
    net = SlimmableResNet(depth, **SMALL)
    assert tuple(len(getattr(net, name)) for name in net.res_layers) == blocks
    assert net.state_dict().keys() == mmpretrain.models.ResNet(depth, **SMALL).state_dict().keys()


@pytest.mark.parametrize('width', [1.0, 0.61, 0.25])
def test_deep_stem_net_at_a_fixed_width_equals_the_slimmable_net(width):
    """R50-D: three 3 x 3 convolutions in front, average pooling in the shortcuts."""
    variant = dict(depth=50, deep_stem=True, avg_down=True)
    full = calibrated_net((width,), **variant)
    narrow = build(width=width, **variant)
    narrow.load_state_dict(full.state_dict(), strict=True)
    narrow.eval()
    assert narrow.stem[0].conv.weight.shape == (slim_channels(8, width), 3, 3, 3)
    x = images()
    with torch.no_grad(), use_width(full, width):
        assert_same_features(narrow(x), full(x))


SWITCHABLE = dict(
    conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
    norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=[0.37, 0.61]),
)


@pytest.mark.parametrize('width', [1.0, 0.61, 0.37])
def test_switchable_net_loads_into_a_fixed_width_and_the_narrow_net_into_itself(width):
    full = build(**SWITCHABLE)
    for parameter in full.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    for each in (1.0, 0.61, 0.37):
        with use_width(full, each):
            full(images(4))
    full.eval()
    narrow, resumed = build(width=width, **SWITCHABLE), build(width=width, **SWITCHABLE)
    narrow.load_state_dict(full.state_dict(), strict=True)
    resumed.load_state_dict(narrow.state_dict(), strict=True)
    x = images()
    with torch.no_grad(), use_width(full, width):
        expected = full(x)
    assert [y.size(1) for y in expected] == [int(16 * 2**i * width) for i in range(4)]
    for net in (narrow, resumed):
        assert not any(isinstance(module, SlimmableLayer) for module in net.modules())
        net.eval()
        assert_same_features(net(x), expected)


def test_narrow_net_that_loaded_keeps_no_memory_of_the_full_one(checkpoint):
    full, _ = checkpoint
    net = build(width=0.5)
    net.load_state_dict(full.state_dict())
    assert all(tensor.is_meta for tensor in net._full[0].state_dict().values())
    assert not any(name.startswith('_full') for name, _ in net.named_modules())
    state = net.state_dict().values()
    assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in state)


# Fixed width


@pytest.mark.parametrize('width', [None, 0.25, 0.61, 1.0])
@pytest.mark.parametrize('depth, factor', [(18, 1), (50, 4)])
def test_out_channels(depth, factor, width):
    net = build(depth=depth, width=width, out_indices=(1, 3))
    expected = tuple(slim_channels(16 * factor * 2**i, width or 1.0) for i in (1, 3))
    assert net.out_channels == expected == tuple(y.size(1) for y in net(images()))


@pytest.mark.parametrize('depth', [18, 50])
def test_fixed_width_net_holds_plain_layers_and_narrow_weights_only(depth):
    net = build(depth=depth, width=0.5)
    assert not any(isinstance(module, SlimmableLayer) for module in net.modules())
    assert net.state_dict().keys() == mmpretrain.models.ResNet(depth, **SMALL).state_dict().keys()
    assert net.conv1.weight.shape == (8, 3, 7, 7)
    with pytest.raises(ValueError, match='no slimmable layer'), use_width(net, 0.25):
        pass


@pytest.mark.parametrize('kind', [SlimmableResNet, SlimmableResNet_CIFAR])
@pytest.mark.parametrize('width', [0.37, 0.61, 1.0])
def test_fixed_width_net_loaded_from_a_full_checkpoint_equals_the_slimmable_net(kind, width):
    full = calibrated_net((1.0, 0.61, 0.37), kind)
    state = {name: tensor.clone() for name, tensor in full.state_dict().items()}
    narrow = MODELS.build(dict(type=f'us3l_mm.{kind.__name__}', depth=18, width=width, out_indices=STAGES, **SMALL))
    narrow.load_state_dict(state, strict=True)
    narrow.eval()
    x = images()
    with torch.no_grad(), use_width(full, width):
        assert_same_features(narrow(x), full(x))
    # What was given stays as it was.
    assert state.keys() == full.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in full.state_dict().items())


def test_fixed_width_bottleneck_net_equals_the_slimmable_net():
    full = calibrated_net((0.37,), depth=50)
    narrow = build(depth=50, width=0.37)
    narrow.load_state_dict(full.state_dict(), strict=True)
    narrow.eval()
    x = images()
    with torch.no_grad(), use_width(full, 0.37):
        assert_same_features(narrow(x), full(x))


@pytest.fixture
def checkpoint(tmp_path):
    """File of a whole calibrated model, and its backbone."""
    full = calibrated_net()
    state = {f'backbone.{name}': tensor for name, tensor in full.state_dict().items()}
    state['neck.fc0.weight'] = torch.randn(4, 4)
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=state, meta={}), path)
    return full, str(path)


@pytest.mark.parametrize('width', [None, 0.5, 1.0])
def test_pretrained_init_cfg_with_prefix(checkpoint, width):
    full, path = checkpoint
    net = build(width=width, init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    net.init_weights()
    net.eval()
    x = images()
    with torch.no_grad(), use_width(full, width or 1.0):
        assert_same_features(net(x), full(x))


def test_narrow_backbone_inside_a_model_loads_the_models_checkpoint(checkpoint):
    full, path = checkpoint

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = build(width=0.5)

    for strict in (False, True):
        model = Model().eval()
        state = torch.load(path, weights_only=True)['state_dict']
        del state['neck.fc0.weight']
        if strict:
            model.load_state_dict(state, strict=True)
        else:
            load_checkpoint(model, path, map_location='cpu')
        with torch.no_grad(), use_width(full, 0.5):
            x = images()
            model.backbone.eval()
            assert_same_features(model.backbone(x), full(x))


@pytest.mark.parametrize('width', [0.25, 0.75])
def test_uncalibrated_checkpoint_is_refused_with_the_command(checkpoint, width):
    message = rf'no batch-norm statistics for width {width} .*us3l calibrate CONFIG CHECKPOINT --widths {width}'
    full, path = checkpoint
    with pytest.raises(RuntimeError, match=message):
        build(width=width).load_state_dict(full.state_dict())
    net = build(width=width, init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    with pytest.raises(RuntimeError, match=message):
        net.init_weights()


def test_uncalibrated_full_width_is_refused():
    untrained = SlimmableResNet(18, out_indices=STAGES, **SMALL)
    with pytest.raises(RuntimeError, match='no batch-norm statistics for width 1 .*--widths 1'):
        build(width=1.0).load_state_dict(untrained.state_dict())


def test_require_statistics_false_slices_weights_and_starts_statistics_anew(checkpoint):
    full, _ = checkpoint
    net = build(width=0.25, require_statistics=False)
    net.load_state_dict(full.state_dict(), strict=True)
    assert torch.equal(net.layer4[1].conv2.weight, full.layer4[1].conv2.weight[:32, :32])
    assert torch.equal(net.layer4[1].bn2.weight, full.layer4[1].bn2.weight[:32])
    for name, tensor in net.state_dict().items():
        if name.endswith('running_mean'):
            assert not tensor.any()
        elif name.endswith('running_var'):
            assert (tensor == 1).all()


def test_resume_of_the_narrow_nets_own_checkpoint(checkpoint):
    full, _ = checkpoint
    net = build(width=0.5)
    net.load_state_dict(full.state_dict())
    net.train()
    net(images(4))  # fine-tuning moves its running statistics
    resumed = build(width=0.5)
    resumed.load_state_dict(net.state_dict(), strict=True)
    net.eval()
    resumed.eval()
    x = images()
    assert all(torch.equal(a, b) for a, b in zip(net(x), resumed(x)))
    assert not torch.equal(net.bn1.running_mean, full.bn1.statistics(0.5)[0])


def test_plain_resnet_of_the_narrow_shape_loads_the_narrow_checkpoint(checkpoint):
    """A narrow net is an ordinary net, also to others."""
    full, _ = checkpoint
    narrow = build(width=0.5)
    narrow.load_state_dict(full.state_dict())
    plain = mmpretrain.models.ResNet(18, stem_channels=8, base_channels=8, out_indices=STAGES)
    plain.load_state_dict(narrow.state_dict(), strict=True)
    plain.eval()
    narrow.eval()
    x = images(1)
    assert all(torch.equal(a, b) for a, b in zip(plain(x), narrow(x)))


def test_checkpoint_without_any_backbone_leaves_it_alone():
    """Loading a head's checkpoint into a model is the loader's business."""
    model = nn.ModuleDict(dict(backbone=build(width=0.5), head=nn.Linear(2, 2)))
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    missing, _ = model.load_state_dict({'head.weight': torch.ones(2, 2), 'head.bias': torch.ones(2)}, strict=False)
    assert (model.head.weight == 1).all()
    assert {f'backbone.{name}' for name, _ in model.backbone.named_parameters()} <= set(missing)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())


# Checkpoints that do not fit


@pytest.fixture(scope='module')
def states():
    """Plain checkpoints of four depths, and one of another base width, as if trained."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        nets = {depth: mmpretrain.models.ResNet(depth, stem_channels=8, base_channels=8) for depth in (18, 34, 50, 101)}
        return {depth: randomise(net).state_dict() for depth, net in nets.items()}


@pytest.mark.parametrize('width', [None, 1.0])
@pytest.mark.parametrize('of, into', [(18, 34), (34, 18), (18, 50), (50, 18), (34, 50), (50, 34), (50, 101), (101, 50)])
def test_checkpoint_of_another_depth_is_refused(of, into, width, states):
    net = SlimmableResNet(into, width=width, stem_channels=8, base_channels=8)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for strict in (True, False):
        message = rf'the checkpoint does not fit SlimmableResNet of depth {into}: .*Check the depth'
        with pytest.raises(RuntimeError, match=message):
            net.load_state_dict(states[of], strict=strict)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_checkpoint_of_another_base_width_is_refused(states):
    with pytest.raises(
        RuntimeError, match=r'of another shape \[.conv1.weight: got \(8, 3, 7, 7\), needs \(16, 3, 7, 7\)'
    ):
        SlimmableResNet(18, **SMALL).load_state_dict(states[18], strict=False)


def test_narrow_net_refuses_a_checkpoint_narrower_than_itself(states):
    with pytest.raises(RuntimeError, match=r'needs \(8, 3, 7, 7\)'):
        build(width=0.5, stem_channels=16, base_channels=16, require_statistics=False).load_state_dict(
            mmpretrain.models.ResNet(18, stem_channels=4, base_channels=4).state_dict(), strict=False
        )


def test_narrow_net_refuses_the_checkpoint_of_a_larger_net():
    """16 channels of 64 at width 0.5 of a net of 32 would be a quarter of another net."""
    larger = mmpretrain.models.ResNet(18, stem_channels=32, base_channels=32)
    with pytest.raises(RuntimeError, match='does not fit'):
        build(width=0.5, require_statistics=False).load_state_dict(larger.state_dict(), strict=False)


def test_whole_model_gives_its_backbone_without_a_prefix(checkpoint):
    full, path = checkpoint
    net = build(init_cfg=dict(type='Pretrained', checkpoint=path))
    net.init_weights()
    assert all(torch.equal(tensor, full.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_missing_layer_is_refused_even_without_strict(states):
    state = dict(states[18])
    del state['layer3.0.conv1.weight']
    with pytest.raises(RuntimeError, match=r"1 parameters missing \['layer3.0.conv1.weight'\]"):
        SlimmableResNet(18, stem_channels=8, base_channels=8).load_state_dict(state, strict=False)


# The stock options


def test_train_and_eval_return_the_net():
    net = build()
    assert net.train() is net and net.training
    assert net.eval() is net and not net.training


def test_unknown_key_of_a_config_is_named():
    with pytest.raises(TypeError, match='widht'):
        build(widht=0.5)


@pytest.mark.parametrize('width', [0, 1.5, '0.5'])
def test_bad_width_is_refused(width):
    with pytest.raises((ValueError, TypeError), match='width must be'):
        build(width=width)


@pytest.mark.parametrize('width', [None, 0.5])
def test_frozen_stages(width):
    net = build(width=width, frozen_stages=2)
    net.train()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    expected = {n for n, _ in net.named_parameters() if n.startswith(('conv1', 'bn1', 'layer1', 'layer2'))}
    assert frozen == expected
    assert not net.bn1.training and not net.layer2[0].bn1.training and net.layer3[0].bn1.training


def test_frozen_stages_of_a_narrow_net_train_on_a_checkpoint(checkpoint):
    full, _ = checkpoint
    net = build(width=0.5, frozen_stages=1)
    net.load_state_dict(full.state_dict())
    net.train()
    frozen = {n: t.clone() for n, t in net.state_dict().items() if n.startswith(('conv1', 'bn1', 'layer1'))}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    before = net.layer2[0].conv1.weight.detach().clone()
    net(images(4))[-1].square().mean().backward()
    optimizer.step()
    state = net.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in frozen.items())
    assert not torch.equal(net.layer2[0].conv1.weight, before)
    assert not torch.equal(state['layer2.0.bn1.running_mean'], full.layer2[0].bn1.statistics(0.5)[0])


def test_norm_eval_normalises_by_the_checkpoints_statistics(checkpoint):
    full, _ = checkpoint
    x = images()
    narrow = build(width=0.5, norm_eval=True)
    narrow.load_state_dict(full.state_dict())
    slimmable = build(norm_eval=True)
    slimmable.load_state_dict(full.state_dict())
    for net in (narrow, slimmable):
        net.train()
        assert net.training and not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    with use_width(full, 0.5), use_width(slimmable, 0.5):
        expected = full(x)
        assert_same_features(narrow(x), expected)
        assert_same_features(slimmable(x), expected)


@pytest.mark.filterwarnings('ignore:torch.utils.checkpoint:UserWarning')
@pytest.mark.parametrize('width', [None, 0.5])
def test_activation_checkpointing_gives_the_same_gradients(width):
    plain, checkpointed = build(width=width, with_cp=False), build(width=width, with_cp=True)
    checkpointed.load_state_dict(plain.state_dict()) if width is None else copy_weights(plain, checkpointed)
    x = images(4)
    for net in (plain, checkpointed):
        if width is None:
            with use_width(net, 0.5):
                net(x)[-1].square().sum().backward()
        else:
            net(x)[-1].square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), checkpointed.parameters()):
        assert a.grad is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f'{name}: {text}')


def copy_weights(source, target):
    with torch.no_grad():
        for a, b in zip(source.parameters(), target.parameters()):
            b.copy_(a)


@pytest.mark.parametrize('width', [None, 0.5])
def test_copies_are_whole(checkpoint, width):
    full, _ = checkpoint
    net = build(width=width)
    net.load_state_dict(full.state_dict())
    net.eval()
    twin = copy.deepcopy(net)
    x = images()
    expected = net(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(twin(x), expected))
    fresh = SlimmableResNet(18, out_indices=STAGES, **SMALL)
    for parameter in fresh.parameters():
        nn.init.constant_(parameter, 0.5)
    calibrate_bn(fresh, [0.5, 1.0], [images()])
    twin.load_state_dict(fresh.state_dict())  # its hook loads into the copy, not into what was copied
    assert (twin.conv1.weight == 0.5).all() and not net.conv1.weight.any()
    twin.bn1.weight.data.fill_(2)
    assert not net.bn1.weight.any()


def test_layers_of_ones_own_choice_are_kept():
    net = build(norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d', eps=1e-3, requires_grad=False))
    assert net.bn1.eps == 1e-3 and not net.bn1.weight.requires_grad


def test_dense_net_loads_the_checkpoint_that_a_net_built_at_its_width_loads():
    full = SlimmableResNet(18, **SMALL)
    calibrate_bn(full, [0.5], [torch.randn(2, 3, 32, 32)])
    dense = full.dense(0.5)
    state = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    for parameter in dense.parameters():
        torch.nn.init.zeros_(parameter)
    dense.load_state_dict(full.state_dict())
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, state[name]), name
