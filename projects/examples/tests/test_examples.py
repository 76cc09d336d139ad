"""The examples: the script runs at tiny settings, and the session's commands are such as there are."""

import re
import runpy
import shlex

import pytest
from PIL import Image

from builders import ROOT, load_script

FOLDER = ROOT / 'projects/examples'


@pytest.mark.slow
def test_script_slides_the_width(tmp_path, monkeypatch, capsys):
    pytest.importorskip('sklearn')
    for name, value in dict(OUT=tmp_path, EPOCHS=2, PER_CLASS=10).items():
        monkeypatch.setenv(name, str(value))
    found = runpy.run_path(str(FOLDER / 'slide_the_width.py'))
    rows = found['rows']
    assert [row['width'] for row in rows] == sorted((row['width'] for row in rows), reverse=True) and len(rows) == 16
    macs = [row['macs'] for row in rows]
    assert macs == sorted(macs, reverse=True) and macs[0] > 4 * macs[-1]
    assert rows[0]['knn'] > 30  # of ten classes
    for name in ('slide_the_width', 'neighbours'):
        with Image.open(tmp_path / f'{name}.png') as picture:
            assert picture.width > 400
    assert '| 0.25 |' in capsys.readouterr().out


def test_commands_of_the_session_exist():
    us3l = load_script('us3l')
    tools, configs = us3l.find_tools(), us3l.find_configs()
    commands = re.findall(r'^\$ us3l (.*)$', (FOLDER / 'session.md').read_text(), re.MULTILINE)
    assert len(commands) > 4
    for name, *words in map(shlex.split, commands):
        assert name in tools or name in us3l.OWN, name
        known = us3l.options_of(tools[name]) if name in tools else []
        assert {word for word in words if word.startswith('--')} <= {*known}, words
        named = {word.removeprefix('us3l_mm::') for word in words if word.startswith('us3l_mm::')}
        assert named <= configs.keys()


def test_every_example_is_in_the_readme():
    text = (FOLDER / 'README.md').read_text()
    for path in FOLDER.iterdir():
        if path.is_file() and path.name != 'README.md':
            assert f']({path.name})' in text, path.name
