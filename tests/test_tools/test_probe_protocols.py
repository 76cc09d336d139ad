"""The fast protocol, fine-tuning and transfer, through the command lines."""

import csv
import json
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS
from mmpretrain.datasets import CIFAR10

from builders import ROOT
from us3l_mm.config import load_config
from us3l_mm.datasets import Digits
from us3l_mm.evaluation.finetune import finetune_config
from us3l_mm.slim import calibrate_bn, to_dense

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
BACKBONE = dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16)
WIDTHS = (1.0, 0.5)
FEW = ['train_dataloader.dataset.per_class=20', 'test_dataloader.dataset.per_class=8']
ENDINGS = ('.json', '.md', '.csv', '.png')
HERE = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0']


@DATASETS.register_module()
class TurnedDigits(Digits):
    """The digits with classes in the order 9 to 0."""

    METAINFO = {'classes': tuple('9876543210')}

    def load_data_list(self):
        return [{**item, 'gt_label': 9 - item['gt_label']} for item in super().load_data_list()]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A calibrated backbone with random weights, as ``calibrate_bn.py`` writes it."""
    torch.manual_seed(0)
    net = MODELS.build(BACKBONE)
    calibrate_bn(net, WIDTHS, [torch.randn(32, 3, 16, 16)])
    path = tmp_path_factory.mktemp('net') / 'net_calibrated.pth'
    state = {f'backbone.{key}': value for key, value in net.state_dict().items()}
    pixels = dict(mean=[80.0] * 3, std=[90.0] * 3)
    torch.save(dict(meta=dict(input_size=(16, 16), backbone=BACKBONE, pixels=pixels), state_dict=state), path)
    return path


@pytest.fixture(scope='module')
def fast(checkpoint, run_tool, tmp_path_factory):
    """Work dir of the fast protocol, and what it writes."""
    work = tmp_path_factory.mktemp('fast')

    def run():
        options = ['--widths', *WIDTHS, '--work-dir', work, '--no-check', '--few-labels', '3', '--seeds', 2]
        run_tool('linear_probe', PROBE, checkpoint, '--protocol', 'fast', *options, '--cfg-options', *FEW)
        return json.loads((work / 'fast_probe.json').read_text())

    run.work, run.result = work, run()
    return run


def test_fast_writes_a_row_for_each_width_in_every_form(fast):
    assert all((fast.work / f'fast_probe{ending}').is_file() for ending in ENDINGS)
    rows = fast.result['widths']
    assert fast.result['protocol'] == 'fast' and [row['width'] for row in rows] == list(WIDTHS)
    for row in rows:
        assert row['size'] == [16, 16] and row['knn200'] is not None
        assert 30 < row['top1'] <= 100 and 30 < row['few']['3']['mean'] <= 100 and row['few']['3']['seeds'] == 2
    lines = list(csv.DictReader((fast.work / 'fast_probe.csv').open()))
    assert [float(line['few 3 mean']) for line in lines] == [row['few']['3']['mean'] for row in rows]


def test_fast_repeats_to_the_digit_after_an_interruption(fast, monkeypatch):
    (fast.work / 'fast_probe.json').unlink()
    state = fast.work / 'features/train/state.json'
    half = {**json.loads(state.read_text()), 'done': 0}
    state.write_text(json.dumps(half))
    assert fast() == fast.result
    monkeypatch.setattr('us3l_mm.evaluation.feature_files._extract', None)  # all features are there
    assert fast() == fast.result


def test_labels_go_by_names_and_images_are_not_augmented(fast, tmp_path, checkpoint, run_tool):
    """Test lists its classes in another order, and training would turn its images."""
    config = tmp_path / 'turned.py'
    lines = [
        f"_base_ = '{ROOT / PROBE}'",
        "train_dataloader = dict(dataset=dict(pipeline=[dict(type='RandomFlip', prob=1.0), *_base_.pipeline]))",
        "test_dataloader = dict(dataset=dict(type='TurnedDigits'))",
    ]
    config.write_text('\n'.join(lines))
    options = ['--widths', *WIDTHS, '--work-dir', tmp_path, '--no-check', '--few-labels', '3', '--seeds', 2]
    run_tool('linear_probe', config, checkpoint, '--protocol', 'fast', *options, '--cfg-options', *FEW)
    assert json.loads((tmp_path / 'fast_probe.json').read_text())['widths'] == fast.result['widths']


def test_other_order_is_refused_where_heads_are_trained(checkpoint, run_tool, tmp_path):
    options = [*FEW, 'test_dataloader.dataset.type=TurnedDigits']
    with pytest.raises(ValueError, match="number the classes in another way, first '0' and '9'"):
        run_tool('linear_probe', PROBE, checkpoint, '--work-dir', tmp_path, '--no-check', '--cfg-options', *options)


@pytest.mark.parametrize('width', WIDTHS)
def test_fine_tuning_starts_from_the_plain_net_of_a_width(checkpoint, tmp_path, width):
    cfg = load_config(PROBE)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    tuned = finetune_config(cfg, width, tmp_path / 'w', lr=0.1, few='2', seed=1)
    assert tuned.optim_wrapper.optimizer.lr == pytest.approx(0.05) and tuned.param_scheduler[0].T_max == 20
    model = MODELS.build(tuned.model)
    model.init_weights()
    net = MODELS.build(BACKBONE)
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    net.load_state_dict({key.removeprefix('backbone.'): value for key, value in state.items()})
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.eval().backbone(images)[0], to_dense(net, width).eval()(images)[0])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_fine_tuning_with_few_labels_goes_on_where_it_was(checkpoint, run_tool, tmp_path, monkeypatch):
    def run(seeds):
        options = ['--widths', 0.5, '--work-dir', tmp_path, '--epochs', 1, '--batch-size', 10, '--no-check']
        options += ['--few-labels', '2', '--seeds', seeds, '--cfg-options', 'test_dataloader.dataset.per_class=4']
        run_tool('linear_probe', PROBE, checkpoint, '--protocol', 'finetune', *options)
        return json.loads((tmp_path / 'finetune.json').read_text())['widths'][0]

    first, row = run(1), run(2)
    folders = sorted(path.name for path in (tmp_path / 'finetune/w0.5').iterdir())
    assert folders == ['2-seed0', '2-seed1'] and row['top1'] is None
    assert row['few']['2']['values'][0] == first['few']['2']['mean'] and row['few']['2']['seeds'] == 2
    monkeypatch.setattr('us3l_mm.evaluation.finetune.ResumableRunner', None)  # nothing is left to run
    assert run(2) == row
    assert all((tmp_path / f'finetune{ending}').is_file() for ending in ENDINGS)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Folder with CIFAR-10 of 40 images for each of its files, and labelled folders."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'data/cifar10' / CIFAR10.base_folder
    folder.mkdir(parents=True)
    for name in ('train_list', 'test_list'):
        files = [[file, None] for file, _ in getattr(CIFAR10, name)]
        monkeypatch.setattr(CIFAR10, name, files)
        for file, _ in files:
            labels = list(range(10)) * 4
            images = 20 * np.array(labels)[:, None] + rng.integers(20, size=(40, 3072))
            (folder / file).write_bytes(pickle.dumps(dict(data=images.astype(np.uint8), labels=labels)))
    for split, count in (('train', 6), ('val', 3)):
        for label, name in enumerate(('cat', 'dog')):
            place = tmp_path / 'mine' / split / name
            place.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(100, size=(20, 24, 3)) + 140 * label
                cv2.imwrite(str(place / f'{number}.png'), image.astype(np.uint8))
    return tmp_path


def test_transfer_makes_one_table_and_skips_what_is_missing_or_done(checkpoint, run_tool, sets, capsys, monkeypatch):
    def run():
        options = [
            '--data-root',
            sets / 'data',
            '--widths',
            *WIDTHS,
            '--work-dir',
            sets / 'out',
            '--cfg-options',
            *HERE,
        ]
        run_tool('transfer', checkpoint, '--datasets', 'cifar10', 'food101', sets / 'mine', *options)
        return json.loads((sets / 'out/transfer.json').read_text())

    result = run()
    cifar, food, mine = result['rows']
    assert [row['dataset'] for row in result['rows']] == ['cifar10', 'food101', 'mine']
    for row in (cifar, mine):
        assert row['status'] == 'done' and row['size'] == [16, 16] and set(row['widths']) == {'1', '0.5'}
    assert cifar['widths']['1'] > 90 and mine['widths']['1'] == 100 == mine['mean_per_class']['1']
    assert food['status'].startswith('missing: no ') and 'https://data.vision.ee.ethz.ch' in food['status']
    table = (sets / 'out/transfer.md').read_text()
    assert '| width | params (M) | MACs (G) | cifar10 | food101 | mine |' in table and '| – | 100.00 |' in table
    assert f'food101: {food["status"]}' in table
    monkeypatch.setattr('us3l_mm.evaluation.transfer.fast_rows', None)  # nothing is left to do
    assert run() == result


def test_transfer_normalises_as_the_pretraining_did_by_either_protocol(checkpoint, run_tool, sets):
    options = ['--protocol', 'paper', '--widths', 0.5, '--work-dir', sets / 'out', '--cfg-options', *HERE]
    run_tool('transfer', checkpoint, '--datasets', sets / 'mine', *options, 'train_cfg.max_epochs=1')
    (row,) = json.loads((sets / 'out/transfer.json').read_text())['rows']
    assert set(row['widths']) == {'0.5'} and 'mean_per_class' not in row
    (config,) = (sets / 'out/mine').glob('*.py')
    assert load_config(str(config)).model.data_preprocessor.mean == [80.0] * 3


def test_transfer_of_a_file_that_does_not_tell_its_backbone_names_the_option(checkpoint, run_tool, sets):
    other = sets / 'other.pth'
    content = torch.load(checkpoint, weights_only=True)
    torch.save(dict(state_dict=content['state_dict']), other)
    with pytest.raises(ValueError, match=r'does not tell its backbone.*--config'):
        run_tool('transfer', other, '--datasets', sets / 'mine')
    content['meta']['backbone']['norm_cfg'] = dict(type='subprocess.Popen', args='true')
    torch.save(content, other)
    with pytest.raises(ValueError, match=r"names 'subprocess\.Popen' where a Module belongs; give the config"):
        run_tool('transfer', other, '--datasets', sets / 'mine')


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--few-labels', '1%'], '--few-labels needs --protocol fast or finetune'),
        (['--protocol', 'fast', '--amp'], 'runs in one process and in float32'),
        (['--protocol', 'finetune', '--resume'], 'finetune goes on by itself'),
        (['--protocol', 'fast', '--few-labels', 'some'], "few labels are a share such as '1%'"),
    ],
)
def test_options_that_do_not_fit_are_refused(run_tool, capsys, more, message):
    with pytest.raises(SystemExit):
        run_tool('linear_probe', PROBE, 'x.pth', *more)
    assert message in capsys.readouterr().err
