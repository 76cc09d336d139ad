"""Signals, dead processes and values that are not finite lose nothing: the samples of the fault scripts."""

import re

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('script, least', [('signals', 4), ('ddp_death', 2), ('nonfinite', 3)])
def test_sample_loses_nothing(run_tool, capfd, script, least):
    run_tool(script, '--sample')  # exits by 1 if a case is silent or lost
    tried, *outcomes = map(int, re.search(r'\| all \|(.+)\|', capfd.readouterr().out)[1].split('|'))
    assert tried >= least and outcomes == [tried, 0, 0]
