"""Published files: what is in them, and that they load as the checkpoint does."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from us3l_mm.models import SlimmableMobileNetV2, SlimmableResNet_CIFAR, SlimmableVisionTransformer
from us3l_mm.slim import calibrate_bn, use_width

pytestmark = pytest.mark.slow

WIDTHS = [1.0, 0.5, 0.3]
ARCH = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
KINDS = {
    'resnet': lambda **options: SlimmableResNet_CIFAR(18, stem_channels=16, base_channels=16, **options),
    'switchable': lambda **options: SlimmableResNet_CIFAR(
        18,
        stem_channels=16,
        base_channels=16,
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=[0.5, 0.3]),
        **options,
    ),
    'mobilenet': lambda **options: SlimmableMobileNetV2(0.25, out_indices=(7,), **options),
    'vit': lambda **options: SlimmableVisionTransformer(ARCH, patch_size=8, img_size=32, **options),
}


def make(kind):
    net = KINDS[kind]()
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and (tensor.dim() == 1 or 'running' in name):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    if kind in ('resnet', 'mobilenet'):
        calibrate_bn(net, WIDTHS, [torch.randn(4, 3, 32, 32)])
    return net.eval()


def features(net, width=None):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        if width is None:
            return net(images)
        with use_width(net, width):
            return net(images)


@pytest.fixture
def save(tmp_path):
    """Write a checkpoint as a training does, with an optimizer, a log and a teacher."""

    def save(net, path='run/epoch_9_calibrated.pth', **more):
        state = {f'backbone.{key}': value for key, value in net.state_dict().items()}
        state |= {f'teacher.{key}': torch.ones_like(value) for key, value in state.items()}
        state |= {'neck.fc.weight': torch.full((3, 3), 1e-3), 'head.fc.bias': torch.ones(2), **more}
        meta = dict(epoch=9, cfg='secret = 1', input_size=(32, 32), dataset_meta=dict(classes=('a', 'b')), time='now')
        hub = dict(log_scalars={}, runtime_info=dict(cfg='secret = 1'), resumed_keys={})
        (tmp_path / path).parent.mkdir(exist_ok=True)
        optimizer = dict(state={0: dict(momentum_buffer=torch.ones(100_000))}, param_groups=[])
        torch.save(dict(meta=meta, state_dict=state, message_hub=hub, optimizer=optimizer), tmp_path / path)
        return tmp_path / path

    return save


@pytest.fixture
def publish(run_tool, capsys):
    """Publish a file; return the path that was printed, and the line."""

    def publish(path, *options):
        capsys.readouterr()
        run_tool('publish', path, *options)
        line = capsys.readouterr().out.splitlines()[-1]
        return re.match(r'saved (.+\.pth): ', line)[1], line

    return publish


def pretrained(kind, path, **options):
    net = KINDS[kind](**options, init_cfg=dict(type='Pretrained', checkpoint=path))
    net.init_weights()
    return net.eval()


@pytest.mark.parametrize('kind', KINDS)
def test_float32_gives_the_same_outputs_bit_for_bit(kind, save, publish):
    net = make(kind)
    published, _ = publish(save(net))
    loaded = pretrained(kind, published)
    assert loaded.state_dict().keys() == net.state_dict().keys()
    for width in WIDTHS:
        for expected, whole in zip(features(net, width), features(loaded, width)):
            assert torch.equal(whole, expected)
        narrow = pretrained(kind, published, width=width)
        direct = pretrained(kind, str(save(net)), width=width)
        assert all(torch.equal(a, b) for a, b in zip(features(narrow), features(direct)))


@pytest.mark.parametrize('kind', KINDS)
def test_float16_gives_the_outputs_of_rounded_weights(kind, save, publish):
    net = make(kind)
    published, _ = publish(save(net), '--fp16')
    rounded = KINDS[kind]().eval()
    rounded.load_state_dict({  # by NumPy's float16, all but the statistics
        key: torch.from_numpy(value.numpy().astype('float16').astype('float32'))
        if value.is_floating_point() and 'running' not in key else value
        for key, value in net.state_dict().items()
    })  # fmt: skip
    assert {value.dtype for value in pretrained(kind, published).state_dict().values()} <= {torch.float32, torch.int64}
    for width in WIDTHS:
        for whole, expected, original in zip(
            features(pretrained(kind, published), width), features(rounded, width), features(net, width)
        ):
            assert torch.equal(whole, expected)
            assert 0 < (whole - original).norm() / original.norm() < 1e-2
        for narrow, expected in zip(features(pretrained(kind, published, width=width)), features(rounded, width)):
            torch.testing.assert_close(narrow, expected, rtol=1e-4, atol=1e-5)


def test_the_file_has_weights_and_a_small_meta_alone(save, publish):
    net = make('resnet')
    source = save(net)
    published, line = publish(source, '--fp16')
    file = torch.load(published, weights_only=True)
    assert file.keys() == {'meta', 'state_dict'}
    expected = dict(part='backbone', source='epoch_9_calibrated.pth', widths=['1', '0.5', '0.3'], input_size=(32, 32))
    assert {key: value for key, value in file['meta'].items() if key != 'us3l_mm_version'} == expected
    assert file['state_dict'].keys() == {f'backbone.{key}' for key in net.state_dict()}
    for key, value in file['state_dict'].items():
        if 'running' in key:
            assert value.dtype == torch.float32 and torch.equal(value, net.state_dict()[key.removeprefix('backbone.')])
        else:
            assert value.dtype == (torch.int64 if key.endswith('tracked') else torch.float16)
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size()
    sizes = [float(size) for size in re.findall(r'([\d.]+) MiB', line)]
    content = Path(published).read_bytes()
    assert sizes == [round(n / 2**20, 2) for n in (source.stat().st_size, len(content))] and 4 * sizes[1] < sizes[0]
    assert 'backbone, widths 1 0.5 0.3; ' in line
    name = f'epoch_9_calibrated_backbone_fp16-{hashlib.sha256(content).hexdigest()[:8]}.pth'
    assert published == str(source.with_name(name))
    assert publish(source, '--fp16')[0] == published  # the same content has the same name


def test_all_parts_but_the_teacher_and_a_name_of_ones_own(save, publish, tmp_path):
    net = make('resnet')
    published, _ = publish(save(net), '--part', 'all', '--out', tmp_path / 'out' / 'r18.v1.pth')
    assert re.fullmatch(r'r18\.v1-[0-9a-f]{8}\.pth', published.rpartition('/')[2])
    file = CheckpointLoader.load_checkpoint(published)
    assert {key.split('.')[0] for key in file['state_dict']} == {'backbone', 'neck', 'head'}
    assert file['meta']['dataset_meta'] == dict(classes=('a', 'b')) and file['meta']['widths'] == ['1', '0.5', '0.3']


def test_slices_of_large_tensors_are_stored_alone(save, publish):
    large = torch.zeros(1000, 1000)
    published, _ = publish(save(make('resnet'), **{'neck.view.weight': large[:2, :2]}), '--part', 'all')
    assert torch.load(published)['state_dict']['neck.view.weight'].untyped_storage().nbytes() == 16


def test_weights_beyond_float16_are_refused_and_variances_kept(save, publish, tmp_path):
    net = make('resnet')
    net.layer1[0].bn1.running_var.fill_(3e5)
    net.layer1[0].bn1.running_var_0_5.fill_(1e-9)
    state = torch.load(publish(save(net), '--fp16')[0])['state_dict']
    assert (state['backbone.layer1.0.bn1.running_var'] == 3e5).all()
    assert (state['backbone.layer1.0.bn1.running_var_0_5'] == 1e-9).all()
    with torch.no_grad():
        net.layer1[0].bn1.weight[3] = -7e4
    before = set(tmp_path.rglob('*'))
    with pytest.raises(
        SystemExit, match=r'backbone\.layer1\.0\.bn1\.weight has values up to 7e\+04, float16 ends at 65'
    ):
        publish(save(net), '--fp16')
    assert set(tmp_path.rglob('*')) == before
    publish(save(net))


def test_widths_of_switchable_norms_of_parts_and_without_norms_are_told(save, publish):
    assert 'backbone, widths 1 0.5 0.3; ' in publish(save(make('switchable')))[1]
    assert 'no batch norm, so every width is ready; ' in publish(save(make('vit')))[1]
    net = make('resnet')
    calibrate_bn(net, [{'layer3': 0.5, 'layer4': 0.75}], [torch.randn(4, 3, 32, 32)])
    assert 'widths 1 0.5 0.3 layer3=0.5,layer4=0.75; ' in publish(save(net))[1]


def test_what_is_not_calibrated_is_told_and_what_is_no_checkpoint_refused(save, publish, tmp_path):
    net = KINDS['resnet']()
    assert 'no width is calibrated: see `us3l calibrate`' in publish(save(net))[1]
    torch.save(net.state_dict(), tmp_path / 'bare.pth')
    with pytest.raises(SystemExit, match=r"bare.pth has no keys that start with 'backbone.', got \['conv1.weight'"):
        publish(tmp_path / 'bare.pth')
