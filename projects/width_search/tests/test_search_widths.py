"""From a pretraining to the widths of its parts, their statistics and the narrow net."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from builders import ROOT
from us3l_mm.config import read_config
from us3l_mm.slim import use_width

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

CONFIG = 'configs/digits/r18_1xb64-16e_digits.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(read_config(ROOT / CONFIG).model)
    model.init_weights()
    path = tmp_path_factory.mktemp('pretrained') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


FEW = ('--num-batches', 1, '--input', 16, '--step', 0.375)


@pytest.mark.parametrize('labels', [(), ('--labels', 'configs/digits/r18_1xb128-20e_digits.py')])
def test_search_meets_the_budget_step_by_step(labels, checkpoint, run_tool, tmp_path, capsys):
    out = tmp_path / 'found'
    run_tool('search_widths', CONFIG, checkpoint, '--max-macs', '5M', '--out', out, *FEW, *labels)
    report = json.loads((tmp_path / 'found.json').read_text())
    macs = [step['macs'] for step in report['steps']]
    assert macs == sorted(macs, reverse=True) and macs[-1] <= 5e6 < macs[-2]
    assert report['steps'][0]['parts'] == dict.fromkeys(['conv1', 'layer1', 'layer2', 'layer3', 'layer4'], 1.0)
    assert all(step['parts']['conv1'] == step['parts']['layer1'] for step in report['steps'])
    assert (tmp_path / 'found.png').read_bytes().startswith(b'\x89PNG')
    assert (tmp_path / 'found.md').read_text().count('\n') == 3 + len(macs)  # one more: the widest single width
    printed = capsys.readouterr().out
    assert report['steps'][-1]['width'] in printed.split('tools/calibrate_bn.py')[1]


def test_found_widths_are_calibrated_and_exported(checkpoint, run_tool, tmp_path):
    widths = {'conv1': 0.5, 'layer1': 0.5, 'layer3': 0.5}
    text = 'conv1=0.5,layer1=0.5,layer3=0.5'
    calibrated = tmp_path / 'calibrated.pth'
    run_tool('calibrate_bn', CONFIG, checkpoint, '--widths', text, 1.0, '--num-batches', 1, '--out', calibrated)
    out = tmp_path / 'narrow'
    run_tool('export_width', CONFIG, calibrated, '--width', text, '--format', 'dense', '--out', out)
    init_default_scope('mmpretrain')
    slimmable = MODELS.build(read_config(ROOT / CONFIG).model)
    slimmable.load_state_dict(torch.load(calibrated, weights_only=True)['state_dict'])
    narrow = MODELS.build(Config.fromfile(f'{out}.py').model)
    narrow.load_state_dict(torch.load(f'{out}.pth', weights_only=True)['state_dict'])
    x = torch.randn(2, 3, 16, 16)
    slimmable.eval(), narrow.eval()
    with torch.no_grad(), use_width(slimmable.backbone, widths):
        (expected,) = slimmable.backbone(x)
    assert expected.size(1) == 128
    torch.testing.assert_close(narrow.backbone(x)[0], expected)


@pytest.mark.parametrize(
    'arguments, error, message',
    [
        ((), SystemExit, 2),
        (('--max-macs', 'lots'), SystemExit, 2),
        (('--max-macs', '1M', '--max-params', '1M'), SystemExit, 2),
        (('--max-macs', '5M', '--num-batches', 0), SystemExit, 2),
        (('--max-macs', '1K'), ValueError, 'budget of 1000 is out of reach'),
        (('--max-macs', '5M', '--parts', 'layer9'), ValueError, r"no slimmable layer in \['layer9'\]"),
        (('--max-macs', '5M', '--parts', 'layer1'), ValueError, 'need one width'),
    ],
)
def test_mistakes_are_named(arguments, error, message, checkpoint, run_tool, tmp_path):
    with pytest.raises(error, match=str(message)):
        run_tool('search_widths', CONFIG, checkpoint, *FEW[:4], '--out', tmp_path / 'x', *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('text', ['0', '1.5', 'half', 'layer1=2', 'layer1=', 'layer1=0.5,0.3'])
def test_mistyped_widths_write_nothing(text, checkpoint, run_tool, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_tool('calibrate_bn', CONFIG, checkpoint, '--widths', text, '--out', tmp_path / 'x.pth')
    assert 'a width is a number in (0, 1], or one for each of some parts' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
