"""Damaged checkpoints are noticed by every way of loading them: the sample of tools/fault/checkpoint_fuzz.py."""

import re

import pytest

from builders import load_script

pytestmark = pytest.mark.slow


def test_no_damage_of_the_sample_is_silent(run_tool, capsys):
    with pytest.raises(SystemExit) as done:
        run_tool('checkpoint_fuzz', '--sample')
    text = capsys.readouterr().out
    assert done.value.code == 0, text
    tried, clear, equal, harmless, silent, unclear = map(int, re.search(r'\| all \|  \|(.*)\|', text)[1].split('|'))
    assert tried == clear + equal + harmless == 300 and silent == unclear == 0
    assert clear > 200 and min(equal, harmless) > 0


def test_the_tool_sees_what_is_silent_and_what_is_unclear(tmp_path):
    """Else no damage could be found."""
    tool = load_script('checkpoint_fuzz')
    case = tool.Case('us3l', 'value of a tensor', 'NaN', ('state_dict', 'conv.weight'), None)
    path = tmp_path / 'damaged.pth'

    def fails(error):
        def load(path):
            raise error

        return load

    loads = {
        'silent': lambda path: dict(weight=tool.torch.ones(2)),
        'harmless': lambda path: dict(weight=tool.torch.zeros(2)),
        'clear': fails(RuntimeError('NaN in conv.weight')),
        'unclear': fails(RuntimeError('something is wrong')),
    }
    sound = dict(weight=tool.torch.zeros(2))
    for expected, load in loads.items():
        assert tool.outcome(case, load, path, sound)[0] == expected
    assert tool.outcome(case, fails(KeyError('conv.weight')), path, sound)[0] == 'unclear'
    for other in (tool.torch.zeros(2).half(), tool.torch.zeros(1, 2), [0.0, 0.0]):
        assert not tool.same(dict(weight=other), sound)
