"""Widths of a command line and of a config."""

import argparse
import random

import pytest
from torch import nn

from us3l_mm.slim import check_width, parse_single_width, parse_width, width_label
from us3l_mm.slim.width import parse_key, width_key


@pytest.mark.parametrize('width', [0.5, 1.0, {'layer1': 0.5}, {'layer4': 0.75, 'backbone.layer1': 0.3}])
def test_label_is_read_again(width):
    assert parse_width(width_label(width)) == check_width(width) == width


@pytest.mark.parametrize('text', ['0', '1.5', 'half', '', 'layer1=', 'layer1=2', 'layer1=0.5,0.3', 'nan'])
def test_text_that_is_no_width(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r'a width is a number in \(0, 1\], or one for each'):
        parse_width(text)


def test_one_width_where_an_order_is_needed():
    assert parse_single_width('0.5') == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match='needs one width for all parts'):
        parse_single_width('layer1=0.5')


@pytest.mark.parametrize(
    ('width', 'error', 'message'),
    [
        ({'layer1': 1.5}, ValueError, r'width must be in \(0, 1\]'),
        ({'layer1': '0.5'}, TypeError, 'width must be a number'),
        ({}, ValueError, 'need at least one part'),
    ],
)
def test_widths_of_a_config_that_cannot_be(width, error, message):
    with pytest.raises(error, match=message):
        check_width(width)


def random_widths(count):
    """Widths of six digits, of a network and of parts whose names have dots and underscores."""
    draw = random.Random(3)
    names = ['conv1', 'layer1', 'layer_2', 'layer4.0.conv1', 'backbone.layer_1.0.down_sample', '0', '_a._b', 'x_0_5']

    def value():
        return draw.choice([1.0, 0.5, 1e-5, draw.randint(1, 64) / 64, draw.randint(1, 10**6) / 10**6])

    for i in range(count):
        parts = draw.sample(names, draw.randint(1, len(names)))
        yield value() if i % 3 == 0 else {part: value() for part in parts}


def test_key_of_a_buffer_is_read_again():
    module, keys = nn.Module(), {}
    for width in random_widths(500):
        key = width_key(width)
        assert parse_key(key) == width, key
        assert keys.setdefault(key, width) == width  # no two widths share one
        module.register_buffer(f'running_mean_{key}', None)  # torch refuses dots
    assert len(keys) > 300


def test_key_does_not_depend_on_the_order_of_the_parts():
    parts = {'layer1': 0.5, 'layer4.0.conv1': 0.25, 'a_b': 1.0}
    assert len({width_key(dict(order)) for order in (parts.items(), reversed(parts.items()))}) == 1
