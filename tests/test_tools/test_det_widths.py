"""A detector at several widths: each is trained and tested once, and a cut-off run goes on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from builders import load_script
from us3l_mm.config import load_config
from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import calibrate_bn
from us3l_mm.utils import jobs as steps

CONFIG = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
tool = load_script('det_widths')
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]


class Commands:
    """Stands for ``subprocess.Popen``: keeps the commands, leaves their files, fails where told."""

    def __init__(self):
        self.done, self.fails = [], {}

    def __call__(self, command, env, pass_fds):
        step = next(Path(part).stem for part in command if '/tools/' in f'/{part}').removeprefix('dist_')
        config = next(Path(part) for part in command if Path(part).name == 'detector.py')
        self.last, work_dir = command, Path(command[command.index('--work-dir') + 1])
        self.done.append((config.parent.name, step))
        failure = self.fails.pop(self.done[-1], None)
        if failure is KeyboardInterrupt:
            raise failure
        if failure is not None:
            return SimpleNamespace(wait=lambda: failure)
        cfg = Config.fromfile(config)
        (work_dir / 'time').mkdir(parents=True, exist_ok=True)
        if step == 'train':
            (work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth').touch()
        else:
            width = cfg.model.backbone.width
            width = width if isinstance(width, float) else min(width.values())
            metrics = {'coco/bbox_mAP': width / 4, 'coco/bbox_mAP_l': -1.0, 'time': 1.0}
            (work_dir / 'time/time.json').write_text(json.dumps(metrics))
        return SimpleNamespace(wait=lambda: 0)


@pytest.fixture
def commands(monkeypatch):
    found = Commands()
    monkeypatch.setattr(steps, 'subprocess', SimpleNamespace(Popen=found))
    return found


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    net = SlimmableResNet_CIFAR(depth=18, stem_channels=16, base_channels=16)
    calibrate_bn(net, [1.0, 0.5], [torch.randn(4, 3, 32, 32)])
    path = tmp_path_factory.mktemp('pretrained') / 'calibrated.pth'
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in net.state_dict().items()}}, path)
    return path


@pytest.fixture
def run(tmp_path, checkpoint, monkeypatch):
    def call(*arguments, widths=(1, 0.5)):
        line = [CONFIG, checkpoint, '--widths', *widths, '--work-dir', tmp_path / 'out', *arguments]
        monkeypatch.setattr('sys.argv', ['det_widths.py', *map(str, line)])
        tool.main()

    return call


BOTH = [('w1', 'train'), ('w1', 'test'), ('w0.5', 'train'), ('w0.5', 'test')]


def test_every_width_is_trained_and_tested(run, commands, tmp_path, checkpoint, capsys):
    run()
    assert commands.done == BOTH
    narrow = Config.fromfile(tmp_path / 'out/w0.5/detector.py').model
    assert (narrow.backbone.width, narrow.neck.in_channels) == (0.5, [32, 64])
    assert narrow.backbone.init_cfg == dict(type='Pretrained', checkpoint=str(checkpoint))
    table = (tmp_path / 'out/table.md').read_text()
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines() if line.startswith('|')]
    assert lines[0] == ['width', 'params (M)', 'MACs (G)', 'coco/bbox_mAP (%)']  # -1: no such boxes in the set
    assert [(line[0], line[-1]) for line in lines[2:]] == [('1', '25.0'), ('0.5', '12.5')]
    assert 'image of 64 x 64 pixels' in table and table in capsys.readouterr().out
    assert (tmp_path / 'out/table.png').stat().st_size > 5000
    assert [row['width'] for row in json.loads((tmp_path / 'out/table.json').read_text())] == [1.0, 0.5]


def test_widths_of_parts_are_a_row_of_the_table(run, commands, tmp_path):
    with pytest.raises(SystemExit, match='width layer3=0.5: .*no batch-norm statistics for width layer3=0.5'):
        run(widths=['layer3=0.5'])
    run('--cfg-options', 'model.backbone.require_statistics=False', widths=[1, 'layer3=0.5'])
    assert commands.done == [('w1', 'train'), ('w1', 'test'), ('wlayer3=0.5', 'train'), ('wlayer3=0.5', 'test')]
    assert '| layer3=0.5 |' in (tmp_path / 'out/table.md').read_text()


def test_what_is_finished_is_skipped(run, commands):
    run(widths=[0.5])
    run()
    run()
    assert sorted(commands.done) == sorted(BOTH)


@pytest.mark.parametrize('step', ['train', 'test'])
def test_what_was_cut_off_goes_on(run, commands, tmp_path, step):
    commands.fails['w0.5', step] = KeyboardInterrupt
    with pytest.raises(SystemExit, match='the same command goes on'):
        run()
    commands.done.clear()
    run()
    assert commands.done == BOTH[BOTH.index(('w0.5', step)) :]
    assert (tmp_path / 'out/w0.5/result.json').exists()


def test_training_resumes(run, commands):
    commands.fails['w1', 'train'] = 1
    with pytest.raises(SystemExit, match='failed: w1: train failed'):
        run(widths=[1])
    assert '--resume' in commands.last


def test_a_failing_width_does_not_stop_the_others(run, commands, capsys):
    commands.fails['w1', 'train'] = 3
    with pytest.raises(SystemExit, match=r'failed: w1: train failed \(exit code 3\); the same command tries again'):
        run()
    assert commands.done == [BOTH[0], *BOTH[2:]]
    assert '| 0.5 |' in capsys.readouterr().out
    run()
    assert commands.done[-2:] == BOTH[:2]


def test_width_that_the_checkpoint_lacks_stops_before_anything_runs(run, commands):
    with pytest.raises(SystemExit, match=r'width 0.3: .*no batch-norm statistics for width 0.3.*us3l calibrate'):
        run(widths=[1, 0.3])
    assert commands.done == []


def test_other_settings_never_mix_with_what_is_there(run, commands):
    run(widths=[1])
    commands.done.clear()
    with pytest.raises(SystemExit, match='w1 was begun with other settings'):
        run('--cfg-options', 'train_cfg.max_epochs=3')
    assert commands.done == []


def test_several_gpus_train_and_test_by_the_launcher(run, commands, tmp_path):
    run('--gpus', 4, widths=[1])
    command = list(map(str, commands.last))
    assert command[0] == 'bash' and command[1].endswith('tools/dist_test.sh')
    assert command[2:5] == [f'{tmp_path}/out/w1/detector.py', f'{tmp_path}/out/w1/train/epoch_10.pth', '4']


def test_printing_runs_nothing(run, commands, capsys):
    run('--print-only')
    assert commands.done == [] and 'fine-tuned at each width' in capsys.readouterr().out


def test_costs_equal_a_count_by_hand():
    """Multiply-adds of each convolution and linear layer, from its shapes in a real run."""
    cfg = load_config(CONFIG, width=0.5)
    init_default_scope('mmdet')
    detector = MODELS.build(
        {**cfg.model, 'init_cfg': None, 'backbone': {**cfg.model.backbone, 'init_cfg': None}}
    ).eval()
    counted = []

    def count(layer, inputs, output):
        counted.append(output.numel() * layer.weight[0].numel())

    for layer in detector.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        detector.bbox_head(detector.extract_feat(torch.randn(1, 3, 64, 64)))
    found = tool.costs(cfg)
    assert sum(counted) <= found['macs'] < 1.1 * sum(counted)  # mmengine also counts batch norm and upsampling
    assert found['params'] == sum(parameter.numel() for parameter in detector.parameters())


def test_two_stages_count_the_head_for_each_region():
    cfg = load_config('configs/det/faster-rcnn_r50_fpn_1x_coco.py')
    init_default_scope('mmdet')
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    few, many = [], []
    for found, regions in ((few, 0), (many, 1000)):
        cfg.model.test_cfg.rpn.max_per_img = regions
        found.append(tool.costs(cfg)['macs'])
    head = 4 * 49 * 256 * 256 * 9 + 256 * 49 * 1024 + 1024 * 81 + 1024 * 320  # four convolutions, three linear layers
    assert 1000 * head <= many[0] - few[0] < 1.1 * 1000 * head  # mmengine also counts batch norm
