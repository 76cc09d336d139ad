"""The way of a detector from scenes to box AP, through the tools."""

import json
import pickle
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import calibrate_bn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

CONFIG = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'


def metrics(work_dir):
    """Last metrics that a run in ``work_dir`` logged, by key."""
    found = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')) + sorted(work_dir.glob('*/*.json')):
        for line in log.read_text().splitlines():
            found.update(json.loads(line))
    return found


@pytest.fixture
def data(digit_scenes):
    """Options that point the config to 4 scenes, which this process reads."""
    of_loader = (f'dataset.data_root={digit_scenes}/', 'num_workers=0', 'persistent_workers=False')
    options = [f'{split}_dataloader.{option}' for split in ('train', 'val', 'test') for option in of_loader]
    return [*options, 'model.test_cfg.score_thr=0']  # a net that has learnt nothing shall predict something


def test_train_and_test_at_half_width(tmp_path, run_tool, data):
    net = SlimmableResNet_CIFAR(depth=18, stem_channels=16, base_channels=16)
    calibrate_bn(net, [1.0, 0.5], [torch.randn(4, 3, 32, 32)])
    state = {f'backbone.{key}': value for key, value in net.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'pretrained.pth')
    work_dir = tmp_path / 'run'
    options = [f'model.backbone.init_cfg.checkpoint={tmp_path}/pretrained.pth', 'train_dataloader.batch_size=2']
    options += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'optim_wrapper.optimizer.lr=0']
    run_tool('train', CONFIG, '--width', 0.5, '--work-dir', work_dir, '--cfg-options', *data, *options)
    trained = metrics(work_dir)
    assert 0 <= trained['coco/bbox_mAP'] <= 1
    dumped = Config.fromfile(str(work_dir / 'retinanet_r18-fpn_1xb4-10e_digits.py'))
    assert dumped.model.backbone.width == 0.5 and dumped.model.neck.in_channels == [32, 64]

    saved = CheckpointLoader.load_checkpoint(str(work_dir / 'epoch_1.pth'))['state_dict']
    weight = state['backbone.layer3.0.conv1.weight']
    assert torch.equal(saved['backbone.layer3.0.conv1.weight'], weight[:32, :16])  # lr=0: the slice as it was loaded

    out, drawn = tmp_path / 'predictions.pkl', tmp_path / 'drawn'
    arguments = [CONFIG, work_dir / 'epoch_1.pth', '--work-dir', tmp_path / 'test', '--out', out, '--show-dir', drawn]
    run_tool('test', *arguments, '--width', 0.5, '--cfg-options', *data)
    assert metrics(tmp_path / 'test')['coco/bbox_mAP'] == trained['coco/bbox_mAP']
    with open(out, 'rb') as file:
        assert [result['img_id'] for result in pickle.load(file)] == [1, 2]
    assert sorted(path.name for path in drawn.iterdir()) == ['00001.png', '00002.png']

    # Another width than that of the training is no silent mistake.
    with pytest.raises(RuntimeError, match='does not fit SlimmableResNet_CIFAR'):
        run_tool('test', *arguments[:4], '--width', 1.0, '--cfg-options', *data)


def test_checkpoint_with_missing_parts_is_refused(tmp_path, run_tool, data):
    net = SlimmableResNet_CIFAR(depth=18, stem_channels=16, base_channels=16, width=1.0)
    # Statistics as if it were trained.
    state = {f'backbone.{key}': value + 0.1 * ('running_' in key) for key, value in net.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'backbone_only.pth')
    arguments = [CONFIG, tmp_path / 'backbone_only.pth', '--work-dir', tmp_path / 'test', '--cfg-options', *data]
    with pytest.raises(RuntimeError, match='(?s)missing keys.*bbox_head'):
        run_tool('test', *arguments)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['CONFIG', 'x.pth', '--out', 'x.json'], r'give a file \*\.pkl, got x\.json'),
        (['CONFIG', 'x.pth', '--launcher', 'magic'], 'invalid choice'),
    ],
)
def test_bad_options_of_test(run_tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run_tool('test', *arguments)
    assert re.search(message, capsys.readouterr().err)


def test_pretraining_config_cannot_be_tested(tmp_path, run_tool):
    (tmp_path / 'pretraining.py').write_text('model = dict(type="X")\n')
    with pytest.raises(SystemExit, match='has no test_dataloader'):
        run_tool('test', tmp_path / 'pretraining.py', 'x.pth', '--work-dir', tmp_path)


@pytest.mark.parametrize('width', ['0', '1.5', 'half', 'layer3=2'])
@pytest.mark.parametrize('name', ['train', 'test'])
def test_bad_width_stops_before_anything_is_built(tmp_path, run_tool, capsys, name, width):
    checkpoint = ['x.pth'] if name == 'test' else []
    with pytest.raises(SystemExit):
        run_tool(name, CONFIG, *checkpoint, '--width', width, '--work-dir', tmp_path / 'run')
    assert 'a width is a number in (0, 1], or one for each of some parts' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', ['train', 'test'])
def test_missing_files_are_named(tmp_path, run_tool, data, name):
    checkpoint = [tmp_path / 'none.pth'] if name == 'test' else []
    with pytest.raises(SystemExit, match='none.py'):
        run_tool(name, tmp_path / 'none.py', *checkpoint)
    with pytest.raises(SystemExit, match='none.pth'):
        load = [f'model.backbone.init_cfg.checkpoint={tmp_path}/none.pth'] if name == 'train' else []
        run_tool(name, CONFIG, *checkpoint, '--work-dir', tmp_path / 'run', '--cfg-options', *data, *load)


def test_checkpoint_of_another_model_is_not_trained_on(tmp_path, run_tool, data):
    torch.save({'state_dict': {'fc.weight': torch.zeros(2, 2)}}, tmp_path / 'other.pth')
    options = [*data, f'load_from={tmp_path}/other.pth', 'model.backbone.init_cfg=None']
    with pytest.raises(RuntimeError, match=r"none of the \d+ keys of RetinaNet: it has \['fc.weight'\]"):
        run_tool('train', CONFIG, '--work-dir', tmp_path / 'run', '--cfg-options', *options)


def test_train_and_test_at_widths_of_parts(tmp_path, run_tool, data):
    width = 'layer3=0.5,layer4=0.75'
    net = SlimmableResNet_CIFAR(depth=18, stem_channels=16, base_channels=16)
    calibrate_bn(net, [{'layer3': 0.5, 'layer4': 0.75}], [torch.randn(4, 3, 32, 32)])
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in net.state_dict().items()}}, tmp_path / 'pretrained.pth')
    work_dir = tmp_path / 'run'
    options = [f'model.backbone.init_cfg.checkpoint={tmp_path}/pretrained.pth', 'train_cfg.max_epochs=1']
    run_tool('train', CONFIG, '--width', width, '--work-dir', work_dir, '--cfg-options', *data, *options)
    dumped = work_dir / 'retinanet_r18-fpn_1xb4-10e_digits.py'
    assert Config.fromfile(str(dumped)).model.neck.in_channels == [32, 96]
    saved = CheckpointLoader.load_checkpoint(str(work_dir / 'epoch_1.pth'))['state_dict']
    assert saved['backbone.layer4.0.conv1.weight'].shape[:2] == (96, 32)
    for config, arguments in ((CONFIG, ['--width', width]), (dumped, [])):  # what was dumped knows the widths
        arguments += ['--work-dir', tmp_path / 'test', '--cfg-options', *data]
        run_tool('test', config, work_dir / 'epoch_1.pth', *arguments)
