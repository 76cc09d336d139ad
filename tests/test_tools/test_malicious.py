"""The script that tries to run code by files: a part of it, and that it would find what it looks for."""

import pickle

import pytest

from builders import load_script

pytestmark = pytest.mark.slow
malicious = load_script('malicious')


def test_sample_executes_nothing(run_tool, capsys):
    """Each case is in a process of its own, forked from this one."""
    with pytest.raises(SystemExit) as done:
        run_tool('malicious', '--sample')
    text = capsys.readouterr().out
    assert done.value.code == 0, text
    total = [line for line in text.splitlines() if line.startswith('| all |')]
    tried, executed, refused, harmless, unclear = map(int, total[0].split('|')[2:-1])
    assert executed == unclear == 0 and tried == refused + harmless > 50 and harmless >= len(malicious.WAYS)


def unsafe(path, configs):
    pickle.loads(path.read_bytes())


def vague(path, configs):
    raise ValueError('no')


def unnamed(path, configs):
    raise pickle.UnpicklingError('the file was refused and nothing in it was executed')


def ends(path, configs):
    raise SystemExit(f'{path} was refused and nothing in it was executed')


@pytest.mark.parametrize(
    'way, outcome', [(unsafe, 'executed'), (vague, 'unclear'), (unnamed, 'unclear'), (ends, 'refused')]
)
def test_outcomes_are_told_apart(way, outcome, tmp_path):
    found = malicious.in_child(malicious.try_one, tmp_path / 'case', tmp_path, 'REDUCE', None, '.pkl', way)
    assert found[0] == outcome
