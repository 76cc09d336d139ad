"""Widths of a command line and of a config."""

import argparse

import pytest

from us3l_mm.slim import check_width, parse_single_width, parse_width, width_label


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
