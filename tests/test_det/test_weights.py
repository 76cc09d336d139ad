"""From which files a detector's backbone and shared head take their weights, and which are refused."""

import logging

import pytest
import torch
import torchvision
from mmdet.testing import demo_mm_inputs
from mmengine.registry import MODELS, DefaultScope

from us3l_mm.config import read_config, set_width
from us3l_mm.models import SlimmableResLayer, SlimmableResNet
from us3l_mm.slim import calibrate_bn, to_dense, use_width

pytestmark = pytest.mark.usefixtures('parse_once')

TINY = dict(depth=18, stem_channels=16, base_channels=16)


@pytest.fixture
def net():
    """Slimmable ResNet-18 with calibrated widths and batch norms that change something."""
    net = SlimmableResNet(**TINY)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    calibrate_bn(net, [1.0, 0.9, 0.5, 0.3], [torch.randn(4, 3, 64, 64) for _ in range(2)])
    return net.eval()


@pytest.fixture
def save(tmp_path):
    def save(state, prefix=''):
        path = tmp_path / f'{len(list(tmp_path.iterdir()))}.pth'
        torch.save({'state_dict': {prefix + key: value for key, value in state.items()}}, path)
        return str(path)

    return save


@pytest.fixture
def logged(monkeypatch):
    """What the backbones log at level INFO."""
    lines = []
    keep = lambda text, _, level=logging.INFO: level >= logging.INFO and lines.append(text)  # noqa: E731
    monkeypatch.setattr('us3l_mm.models.backbones.base.print_log', keep)
    return lines


def load(checkpoint, cls=SlimmableResNet, prefix='backbone.', **kwargs):
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix=prefix)
    built = cls(**{**TINY, **kwargs}, init_cfg=init_cfg)
    built.init_weights()
    return built.eval()


@pytest.mark.parametrize('width', [1.0, 0.9, 0.5, 0.3])
@pytest.mark.parametrize('source', ['pretraining', 'dense export'])
def test_shared_head_is_the_last_stage_of_the_pretraining(net, save, width, source):
    dense = to_dense(net, width)
    checkpoint = save((net if source == 'pretraining' else dense).state_dict(), 'backbone.')
    stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    backbone = load(checkpoint, width=width, **stages)
    shared = load(checkpoint, SlimmableResLayer, width=width)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), use_width(net, width):
        (expected,) = net(images)
        got = shared.layer4(*backbone(images))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        assert expected.abs().max() > 1e-3
        assert got.size(1) == shared.out_channels
        torch.testing.assert_close(shared(*backbone(images)), got, rtol=1e-4, atol=1e-5)  # its batch norm is new
    names = {name.split('.')[0] for name, _ in shared.named_parameters()}
    assert names == {'layer4', 'norm'} and all(parameter.requires_grad for parameter in shared.parameters())


def test_shared_head_trains(net, save):
    shared = load(save(net.state_dict(), 'backbone.'), SlimmableResLayer, width=0.5).train()
    shared(torch.randn(2, 32, 14, 14)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in shared.parameters())


@pytest.mark.parametrize('cls', [SlimmableResNet, SlimmableResLayer])
def test_width_without_statistics_names_the_command(net, save, cls):
    checkpoint = save(net.state_dict(), 'backbone.')
    with pytest.raises(RuntimeError, match=r'no batch-norm statistics for width 0\.7.*us3l calibrate.*--widths 0\.7'):
        load(checkpoint, cls, width=0.7)
    load(checkpoint, cls, width=0.7, require_statistics=False)


def test_log_counts_keys(net, save, logged):
    state = {**net.state_dict(), 'fc.weight': torch.zeros(10, 128)}
    del state['layer1.0.bn1.num_batches_tracked']
    load(save(state, 'backbone.'), width=0.5)
    # Of 20 convolutions and 20 batch norms with 5 tensors each, the numbers of batches have no channels.
    expected = 'SlimmableResNet at width 0.5: 119 of 120 tensors loaded, 100 of them sliced; 1 missing, 1 unexpected'
    assert logged[0] == expected
    logged.clear()
    load(save(to_dense(net, 0.5).state_dict()), prefix=None, width=0.5)
    assert logged == [
        'SlimmableResNet at width 0.5: 120 of 120 tensors loaded, 0 of them sliced; 0 missing, 0 unexpected'
    ]


def test_nothing_loaded_is_an_error(net, save):
    with pytest.raises(RuntimeError, match=r"0\.pth has no entry that starts with 'backbone\.', see init_cfg"):
        load(save(net.state_dict()), width=0.5)
    with pytest.raises(RuntimeError, match=r'1\.pth has none of the 120 keys of SlimmableResNet: it has'):
        load(save({'weight_0': torch.ones(3), 'stem.0': torch.ones(3)}), prefix=None, width=0.5)
    with pytest.raises(RuntimeError, match='does not fit SlimmableResNet of depth 34'):
        load(save(net.state_dict(), 'backbone.'), depth=34, width=0.5)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])  # as torchvision and mmpretrain save a classifier
def test_supervised_checkpoints_load_at_full_width(save, prefix):
    plain = torchvision.models.resnet18(num_classes=3).eval()
    for name, buffer in plain.named_buffers():
        if 'running' in name:
            buffer.uniform_(0.5, 1.5)  # trained statistics
    checkpoint = save(plain.state_dict(), prefix)
    ours = load(checkpoint, prefix=prefix or None, width=1.0, stem_channels=64, base_channels=64)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = torch.nn.Sequential(*list(plain.children())[:-2])(images)
        torch.testing.assert_close(ours(images)[0], expected, rtol=1e-4, atol=1e-5)
    narrow = dict(prefix=prefix or None, width=0.5, stem_channels=64, base_channels=64)
    with pytest.raises(RuntimeError, match='(?s)statistics for width 0.5.*us3l calibrate.*require_statistics=False'):
        load(checkpoint, **narrow)
    sliced = load(checkpoint, **narrow, require_statistics=False)  # batch norm trains: statistics start anew
    assert torch.equal(sliced.layer4[0].conv1.weight, plain.layer4[0].conv1.weight[:256, :128])
    assert sliced.bn1.running_mean.eq(0).all() and sliced.bn1.running_var.eq(1).all()


@pytest.mark.slow
@pytest.mark.parametrize('width', [1.0, 0.3])
def test_c4_detector_of_a_config_trains_backbone_and_shared_head(net, save, width):
    """The config for Pascal VOC with a narrow net, all of its layers."""
    checkpoint = save(net.state_dict(), 'backbone.')
    cfg = read_config('configs/det/faster-rcnn_r50_c4_24k_voc0712.py')
    cfg.model.backbone.update(TINY)
    cfg.model.backbone.init_cfg.checkpoint = checkpoint
    cfg.model.roi_head.shared_head.update(TINY)
    cfg.model.rpn_head.feat_channels = 16
    set_width(cfg, width)
    DefaultScope.get_instance('test', scope_name='mmdet')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    expected = net.layer4[0].conv1.weight[: detector.roi_head.shared_head.layer4[0].conv1.out_channels]
    assert torch.equal(
        detector.roi_head.shared_head.layer4[0].conv1.weight, expected[:, : cfg.model.rpn_head.in_channels]
    )
    batch = demo_mm_inputs(2, [[3, 64, 64], [3, 64, 48]], num_classes=20, num_items=[2, 1])
    losses = detector.train()(**detector.data_preprocessor(batch, True), mode='loss')
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert not [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    with torch.no_grad():
        results = detector.eval()(**detector.data_preprocessor(batch, False), mode='predict')
    assert len(results) == 2 and all(result.pred_instances.labels.lt(20).all() for result in results)
