"""tools/analysis_tools/analyze_weights.py and analyze_features.py on a tiny net with digits."""

import json

import pytest
import torch

from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import UncalibratedError, calibrate_bn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]
pytest.importorskip('sklearn')

PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
NET = dict(depth=18, stem_channels=16, base_channels=16)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    net = SlimmableResNet_CIFAR(**NET)
    calibrate_bn(net, (1.0, 0.5), [torch.randn(8, 3, 16, 16)])
    path = tmp_path_factory.mktemp('insight') / 'calibrated.pth'
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in net.state_dict().items()}}, path)
    return path


def test_every_insight_is_written_with_its_command(run_tool, checkpoint, tmp_path, capsys):
    run_tool('analyze_features', PROBE, checkpoint, '--widths', 0.5, 1.0, '--num-images', 40, '--work-dir', tmp_path)
    said = capsys.readouterr().out
    for name in ('cka', 'rank', 'neighbours', 'tsne', 'retrieval', 'cam'):
        found = json.loads((tmp_path / 'insight' / f'{name}.json').read_text())
        assert found.keys() == {'title', 'says', 'command', 'data'}
        assert found['says'] in said and f'## {found["title"]}' in said
        assert found['command'].startswith('python ') and f'analyze_features.py {PROBE} ' in found['command']
        assert (tmp_path / 'insight' / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    rows = json.loads((tmp_path / 'insight' / 'rank.json').read_text())['data']
    assert rows['images'] == 40 and [row['channels'] for row in rows['widths']] == [128, 64]


def test_what_is_not_possible_is_said_in_words(run_tool, checkpoint, tmp_path):
    args = ['--num-images', 20, '--work-dir', tmp_path, '--what', 'retrieval', '--widths', 1.0]
    with pytest.raises(SystemExit, match='two widths at least'):
        run_tool('analyze_features', PROBE, checkpoint, *args)
    with pytest.raises(UncalibratedError, match='no statistics for width 0.25.*us3l calibrate'):
        run_tool('analyze_features', PROBE, checkpoint, *args, 0.25)
    with pytest.raises(SystemExit, match=r'images \[999\] of --images are not among the 20'):
        run_tool('analyze_features', PROBE, checkpoint, *args, 0.5, '--images', 999)
    with pytest.raises(SystemExit, match='--neighbours 20 of each image need more images than the 20'):
        run_tool('analyze_features', PROBE, checkpoint, *args, 0.5, '--neighbours', 20)
    with pytest.raises(SystemExit, match='is no linear probe'):
        run_tool('analyze_features', 'configs/digits/r18_1xb64-16e_digits.py', checkpoint, *args, 0.5)


def test_weights_of_checkpoints_stand_side_by_side(run_tool, checkpoint, tmp_path, capsys):
    run_tool('analyze_weights', checkpoint, checkpoint, '--names', 'one', 'two', '--groups', 4, '--work-dir', tmp_path)
    found = json.loads((tmp_path / 'insight' / 'weights.json').read_text())
    assert found['data']['one'] == found['data']['two'] and len(found['data']['one']) == 2
    assert found['says'] in capsys.readouterr().out
    for names in (['one'], ['one', 'one']):
        with pytest.raises(SystemExit):
            run_tool('analyze_weights', checkpoint, checkpoint, '--names', *names)
        assert '--names needs a different name for each of 2 checkpoints' in capsys.readouterr().err
