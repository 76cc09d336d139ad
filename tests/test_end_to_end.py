"""The main job, tiny, through the command lines: pretrain, resume, calibrate, probe, fine-tune nets."""

import contextlib
import json

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from mmpretrain.models import ResNet_CIFAR

from builders import ROOT
from us3l_mm.slim import use_width

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'
PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
TINY = [
    'train_cfg.max_epochs=4',
    'train_dataloader.batch_size=16',
    'train_dataloader.dataset.per_class=4',
    'model.neck.hid_channels=32',
    'model.distill_predictor.hid_channels=32',
    'default_hooks.checkpoint.interval=1',
]
BACKBONE = dict(depth=18, stem_channels=16, base_channels=16)
WIDTHS = (1.0, 0.5, 0.3)
SPLITS = ('train', 'val', 'test')


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory, run_tool):
    """A pretraining of four epochs, one for each stage of dynamic sampling, and its calibration."""
    folder = tmp_path_factory.mktemp('pretrain')
    with open(folder / 'screen.txt', 'w') as screen, contextlib.redirect_stdout(screen):
        run_tool('train', PRETRAIN, '--work-dir', folder, '--cfg-options', *TINY)
    run_tool('calibrate_bn', PRETRAIN, folder / 'epoch_4.pth', '--widths', *WIDTHS, '--cfg-options', *TINY)
    return folder


@pytest.fixture(scope='module')
def calibrated(work_dir):
    return work_dir / 'epoch_4_calibrated.pth'


def backbone_state(path):
    state = torch.load(path, weights_only=True)['state_dict']
    return {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}


def test_log_has_losses_of_each_role_widths_and_feature_std(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [line for line in map(json.loads, log.read_text().splitlines()) if 'loss' in line]  # not the monitor's
    assert len(lines) >= 4 and 'loss_narrowest' not in lines[0]  # stage 0 trains the full width only
    last = lines[-1]
    assert last['width_widest'] == 1 and last['width_narrowest'] == 0.25 and 0.25 < last['width_random'] < 1
    assert {'loss', 'loss_widest', 'loss_narrowest', 'loss_random', 'group_reg', 'feature_std'} <= last.keys()


def test_screen_has_a_summary_and_the_log_file_all_settings(work_dir):
    screen = (work_dir / 'screen.txt').read_text()
    start, first, later = screen.partition('Epoch(train) ')
    assert first and len(start.splitlines()) <= 20
    length = '4 epochs, 8 iterations; 2.5 T by passes'
    for text in ('US3L, ', '0.25 to 1, the lowest in 4 stages', length, str(work_dir)):
        assert text in start
    assert 'deprecated' not in screen and 'Exp name' not in later
    (log,) = work_dir.glob('*/*.log')
    settings = log.read_text().partition('Epoch(train) ')[0]
    for text in ('System environment:', 'PyTorch: ', 'Config:', 'width_range=', 'Hooks will be executed'):
        assert text in settings and text not in start
    (config,) = work_dir.glob('*/vis_data/config.py')
    assert 'width_range=' in config.read_text()


def test_size_of_images_goes_with_the_weights(work_dir, calibrated):
    for path in (work_dir / 'epoch_4.pth', calibrated):
        assert CheckpointLoader.load_checkpoint(str(path))['meta']['input_size'] == (16, 16)


def test_calibration_changes_nothing_but_statistics(work_dir, calibrated):
    before = CheckpointLoader.load_checkpoint(str(work_dir / 'epoch_4.pth'))['state_dict']
    after = torch.load(calibrated, weights_only=True)['state_dict']
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and all(key.startswith('backbone.') and '.running_' in key for key in changed)
    added = after.keys() - before.keys()
    assert added and all(key.endswith(('_0_5', '_0_3')) for key in added)


def test_calibrated_checkpoint_fits_stock_and_narrow_nets(calibrated):
    state = backbone_state(calibrated)
    slimmable = MODELS.build(dict(type='us3l_mm.SlimmableResNet_CIFAR', **BACKBONE)).eval()
    slimmable.load_state_dict(state)
    images = torch.randn(2, 3, 16, 16)
    stock = ResNet_CIFAR(**BACKBONE)
    assert not stock.load_state_dict(state, strict=False).missing_keys
    stock.eval()
    with torch.no_grad():
        assert torch.equal(stock(images)[0], slimmable(images)[0])
        for width in WIDTHS[1:]:
            pretrained = dict(type='Pretrained', checkpoint=str(calibrated), prefix='backbone.')
            narrow = MODELS.build(
                dict(type='us3l_mm.SlimmableResNet_CIFAR', width=width, init_cfg=pretrained, **BACKBONE)
            )
            narrow.init_weights()
            with use_width(slimmable, width):
                expected = slimmable(images)[0]
            torch.testing.assert_close(narrow.eval()(images)[0], expected, rtol=0, atol=1e-6)


def test_linear_probe_writes_a_row_for_each_width(calibrated, run_tool, tmp_path):
    options = ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'train_dataloader.dataset.per_class=10']
    run_tool('linear_probe', PROBE, calibrated, '--widths', *WIDTHS, '--work-dir', tmp_path, '--cfg-options', *options)
    rows = json.loads((tmp_path / 'linear_probe.json').read_text())['widths']
    assert [row['width'] for row in rows] == list(WIDTHS)
    assert all(0 <= row['top1'] <= 100 and row['size'] == [16, 16] for row in rows)
    for wide, narrow in zip(rows, rows[1:]):
        assert wide['params'] > narrow['params'] and wide['macs'] > narrow['macs']


def test_config_of_a_pretraining_is_no_probe(calibrated, run_tool, tmp_path):
    with pytest.raises(
        SystemExit, match=r'16e_digits.py is no linear probe: it has a model of type US3L.*configs/linear'
    ):
        run_tool('linear_probe', PRETRAIN, calibrated, '--work-dir', tmp_path / 'work')
    assert not (tmp_path / 'work').exists()


def test_probe_of_images_that_no_transform_resizes_has_their_size(calibrated, run_tool, tmp_path):
    options = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.per_class=4']
    config = tmp_path / 'raw.py'
    lines = [f"{split}_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInputs')]))" for split in SPLITS]
    config.write_text('\n'.join([f"_base_ = '{ROOT / PROBE}'", *lines]))
    run_tool('linear_probe', config, calibrated, '--widths', 0.5, '--work-dir', tmp_path, '--cfg-options', *options)
    (row,) = json.loads((tmp_path / 'linear_probe.json').read_text())['widths']
    assert row['size'] == [8, 8]  # of scikit-learn's digits


def test_probe_of_an_uncalibrated_checkpoint_names_the_command(work_dir, run_tool, tmp_path):
    with pytest.raises(RuntimeError, match=r'us3l calibrate CONFIG CHECKPOINT --widths 1'):
        run_tool('linear_probe', PROBE, work_dir / 'epoch_4.pth', '--work-dir', tmp_path)


def test_missing_and_cut_off_checkpoints_are_named(calibrated, run_tool, tmp_path):
    with pytest.raises(SystemExit, match=r'epoch_5_calibrated\.pth not found'):
        run_tool('linear_probe', PROBE, calibrated.with_name('epoch_5_calibrated.pth'), '--work-dir', tmp_path)
    short = tmp_path / 'short.pth'
    short.write_bytes(calibrated.read_bytes()[:5000])
    with pytest.raises(RuntimeError, match=r'cannot load checkpoint .*short\.pth \(5000 bytes\)'):
        run_tool('calibrate_bn', PRETRAIN, short)


def test_calibration_of_a_bad_width_writes_nothing(work_dir, run_tool, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_tool('calibrate_bn', PRETRAIN, work_dir / 'epoch_4.pth', '--widths', 1.5, '--out', tmp_path / 'x.pth')
    assert 'width must be in (0, 1], got 1.5' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_key_in_a_config_is_named(run_tool, tmp_path):
    with pytest.raises(TypeError, match='bananas'):
        run_tool('train', PRETRAIN, '--work-dir', tmp_path, '--cfg-options', *TINY, 'model.bananas=1')
