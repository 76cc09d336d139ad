"""The benchmark of loaders measures every way, on files of ImageNet's size."""

import json

import pytest

from builders import find_script


@pytest.mark.slow
def test_all_ways_are_measured(run_tool, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(find_script('decode').parent)
    options = ('--images', 2, '--side', 16, '--batch', 2, '--repeats', 1, '--workers', 0, '--need', 1e6)
    run_tool('decode', *options, '--device', 'cpu', '--out', tmp_path / 'a.json')
    rows = json.loads((tmp_path / 'a.json').read_text())['rows']
    assert {row['table'] for row in rows} == {'decode', 'two views', 'load', 'read', 'loader'}
    assert all(row['images_per_s'] > 0 for row in rows)
    shown = capsys.readouterr().out
    size = int(shown.partition('JPEGs of ')[2].partition(' kB')[0])
    assert 90 < size < 140  # as ImageNet's, 110 kB
    assert '| imagenet_us3l.py (all in the workers) | 0 |' in shown and '| 0.00 |' in shown
