"""The choice of a width."""

import json

import pytest

from us3l_mm.deploy.budget import parse_amount, read_accuracy, widest_within


@pytest.mark.parametrize(
    ('text', 'amount'), [('1G', 1e9), ('1.5g', 1.5e9), ('500M', 5e8), ('20 k', 2e4), ('2e9', 2e9), ('7', 7)]
)
def test_amounts(text, amount):
    assert parse_amount(text) == amount


@pytest.mark.parametrize('text', ['1GB', 'G', '', '-1', '0', '1.2.3', 'nan', 'inf', '1e999'])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match='give a number above zero such as 500M'):
        parse_amount(text)


ROWS = [
    dict(width=width, macs=macs, latency_ms=ms)
    for width, macs, ms in ((1.0, 9, 9), (0.5, 4, 3), (0.7, 6, 2), (0.2, 1, 5))
]


@pytest.mark.parametrize(
    ('budgets', 'width'),
    [
        (dict(macs=100), 1.0),
        (dict(macs=4), 0.5),  # at most: the budget itself is within it
        (dict(latency_ms=3), 0.7),  # the widest, though a narrower one was measured to be slower
        (dict(latency_ms=5, macs=5), 0.5),
        (dict(macs=0.5), None),
    ],
)
def test_widest_within_all_budgets(budgets, width):
    found = widest_within(ROWS, budgets)
    assert (found and found['width']) == width


def test_accuracies_of_a_probe(tmp_path):
    rows = [dict(width=1, top1=60.5, top5=90.0), dict(width=0.25, top1=50.0)]
    (tmp_path / 'linear_probe.json').write_text(json.dumps(dict(widths=rows)))
    assert read_accuracy(str(tmp_path / 'linear_probe.json')) == {1.0: 60.5, 0.25: 50.0}


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"widths": [{"width": 1}]}', '{"widths": 3}'])
def test_file_without_accuracies_is_refused(tmp_path, text):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ValueError, match='has no top1 accuracy by width'):
        read_accuracy(str(tmp_path / 'x.json'))
