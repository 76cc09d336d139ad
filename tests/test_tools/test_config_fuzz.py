"""The fuzz of options finds what it is there to find, and nothing in our modules."""

import time
import types

import pytest

from builders import find_script, load_script


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(find_script('config_fuzz').parent)
    return load_script('config_fuzz')


@pytest.mark.parametrize(
    'build, legal, outcome',
    [
        (lambda: 1.0, True, 'right'),
        (lambda: float('nan'), True, 'wrong'),
        (lambda: int('x'), True, 'wrong'),
        (lambda: 1.0, False, 'silent'),
        (lambda: int('x'), False, 'unnamed'),
        (lambda: {}['momentum'], False, 'clear'),
        (lambda: time.sleep(5), False, 'hang'),
    ],
)
def test_outcome_of_a_case(fuzz, monkeypatch, build, legal, outcome):
    monkeypatch.setattr(fuzz, 'SECONDS', 1)
    fuzz.signal.signal(fuzz.signal.SIGALRM, fuzz.ring)
    case = fuzz.Case('Module', 'momentum', -1, legal, build, lambda built: built)
    assert fuzz.attempt(case)[0] == outcome


def test_option_without_a_domain_is_an_error(fuzz, monkeypatch):
    class Module:
        __module__ = 'us3l_mm.models'

        def __init__(self, brand_new: int = 1) -> None: ...

    monkeypatch.setattr(fuzz, 'targets', lambda: {'Module': fuzz.Target(Module)})
    with pytest.raises(SystemExit, match=r'which values these options may have: Module\.brand_new'):
        list(fuzz.option_cases())


def test_domains_say_what_the_issue_is_about(fuzz):
    domains = types.SimpleNamespace(**{name: fuzz.DOMAINS[name] for name in ('sync', 'num_widths', 'temperature')})
    assert domains.sync(True) and not domains.sync('False') and not domains.sync(1)
    assert domains.num_widths(3) and not domains.num_widths(True) and not domains.num_widths(3.0)
    assert domains.temperature(0.5) and not domains.temperature(float('nan')) and not domains.temperature(0)


@pytest.mark.slow
def test_sample_finds_nothing(run_tool, monkeypatch, capsys):
    monkeypatch.syspath_prepend(find_script('config_fuzz').parent)
    run_tool('config_fuzz', '--sample')
    total = capsys.readouterr().out.splitlines()[-1].split('|')
    tried, clear, right, *faults = (int(cell) for cell in total[2:-1])
    assert tried == clear + right == 1000 and not any(faults)
    assert clear > 500 and right > 20
