"""Checks of options: what passes comes back, what does not is named with its value, its type and the range."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from us3l_mm.slim import (
    check_choice,
    check_count,
    check_dict,
    check_flag,
    check_list,
    check_number,
    check_part,
    check_range,
    check_size,
    check_widths,
)
from us3l_mm.slim.width import check_width


def outcome(check, *arguments, **options):
    """What a check of the option ``lr`` returns, or the type and the text of its error."""
    try:
        return check('lr', *arguments, **options)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    'interval, inside',
    [
        ('[0, 1]', lambda x: 0 <= x <= 1),
        ('(0, 1]', lambda x: 0 < x <= 1),
        ('[0, 1)', lambda x: 0 <= x < 1),
        ('(0, 1)', lambda x: 0 < x < 1),
        ('(0, inf)', lambda x: x > 0),
        ('[-0.5, 0.5]', lambda x: abs(x) <= 0.5),
        ('[1e-6, inf)', lambda x: x >= 1e-6),
        ('(-inf, inf)', lambda x: True),
    ],
)
def test_number_passes_where_it_lies_in_the_interval(interval, inside):
    draw = random.Random(1)
    edges = [-0.5, 0, 0.5, 1, 1e-6, 9.9e-7, 1e38, -1e38, 7, Fraction(1, 3), np.float32(0.25), np.int64(1)]
    for value in edges + [draw.uniform(-1.5, 1.5) for _ in range(200)]:
        found = outcome(check_number, value, interval)
        if inside(value):
            assert type(found) is float and found == float(value)
        else:
            assert found == (ValueError, f'lr must be in {interval}, got {value!r} of type {type(value).__name__}')


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, np.float64('nan'), 1e39, -1e300, 10**400])
@pytest.mark.parametrize('interval', ['(-inf, inf)', '[0, 1]', '[0, inf)'])
def test_number_that_float32_cannot_hold_is_refused(value, interval):
    kind, text = outcome(check_number, value, interval)
    assert kind is ValueError and text.startswith(f'lr must be in {interval}')


@pytest.mark.parametrize('value', [True, False, np.bool_(True), '0.5', '', None, [], [0.5], {}, 1j, torch.tensor(0.5)])
def test_what_is_no_number_is_refused(value):
    needed = f'got {value!r} of type {type(value).__name__}'
    assert outcome(check_number, value, '[0, 1]') == (TypeError, f'lr must be a number in [0, 1], {needed}')
    assert outcome(check_count, value) == (TypeError, f'lr must be a whole number from 1, {needed}')


def test_count_is_whole_and_in_its_range():
    for value in (1, 3, 9, np.int64(4)):
        found = outcome(check_count, value, most=9)
        assert type(found) is int and found == value
    for value in (0, -1, 10, 10**30):
        assert outcome(check_count, value, most=9) == (
            ValueError,
            f'lr must be a whole number from 1 to 9, got {value} of type int',
        )
    for value in (3.0, 1.5, math.nan, np.float64(2)):
        assert outcome(check_count, value)[0] is TypeError
    assert outcome(check_count, 0, least=0) == 0
    assert outcome(check_count, 2**63)[0] is ValueError  # torch has no such integer


def test_size_is_one_count_or_two():
    assert outcome(check_size, 3) == 3
    assert outcome(check_size, [3, 4]) == (3, 4)
    for value, kind in ((0, ValueError), ((3,), ValueError), ((3, 0), ValueError), ((3, 4.0), TypeError)):
        found = outcome(check_size, value)
        assert found[0] is kind and 'lr' in found[1]
    assert outcome(check_size, '12')[0] is TypeError


def test_flag_is_a_real_boolean():
    assert outcome(check_flag, True) is True and outcome(check_flag, False) is False
    for value in ('False', 'True', '', 0, 1, None, [], np.bool_(False)):
        needed = f'lr must be True or False, got {value!r} of type {type(value).__name__}'
        assert outcome(check_flag, value) == (TypeError, needed)


def test_choice_is_one_of_the_list():
    assert outcome(check_choice, 'b', ('a', 'b')) == 'b'
    for value in ('c', '', None, 1, ['a'], {}):
        needed = f"lr must be one of ('a', 'b'), got {value!r} of type {type(value).__name__}"
        assert outcome(check_choice, value, ('a', 'b')) == (ValueError, needed)


def test_range_is_two_numbers_in_order():
    assert outcome(check_range, [0.25, 1], '(0, 1]') == (0.25, 1)
    for value in ((1.0, 0.25), (0.5,), (0.2, 0.5, 1.0), (), (0, 1), (0.5, 1.5), (math.nan, 1.0)):
        assert outcome(check_range, value, '(0, 1]')[0] is ValueError
    for value in (0.5, '01', None, (True, 1.0), ('0.5', 1.0), {0.2, 0.5}):
        kind, text = outcome(check_range, value, '(0, 1]')
        assert kind is TypeError and 'lr' in text and '(0, 1]' in text


def test_list_has_enough_items_of_its_kind():
    assert outcome(check_list, ['a'], str) == ['a']
    assert outcome(check_list, (), str, least=0) == ()
    assert outcome(check_list, [], str)[0] is ValueError
    for value in ('abc', [1], ['a', None], {'a': 1}, None):
        assert outcome(check_list, value, str)[0] is TypeError


def test_dicts_and_parts():
    layer = nn.Linear(1, 1)
    assert outcome(check_dict, {'a': 1}, 'a') == {'a': 1}
    assert outcome(check_dict, {'a': 1}, 'a', 'b') == (
        ValueError,
        "lr must be a dict with 'a' and 'b', got {'a': 1} of type dict",
    )
    assert outcome(check_dict, [])[0] is TypeError
    assert outcome(check_part, layer) is layer
    assert outcome(check_part, {'type': 'X'}) == {'type': 'X'}
    assert outcome(check_part, {}, needs_type=False) == {}
    for value in ({}, None, 'X', [{'type': 'X'}]):
        assert outcome(check_part, value)[0] is TypeError


def test_widths_are_a_list_without_repeats():
    assert outcome(check_widths, [1, 0.5]) == (1.0, 0.5)
    assert outcome(check_widths, [0.5, {'layer1': 0.5}], check_width) == (0.5, {'layer1': 0.5})
    for value, message in (
        ([], 'a list of 1 or more'),
        ([0.5, 1.0, 0.5], 'no width twice (six digits count), got 0.5, 0.5'),
        ([0.5, 0.50000001], 'no width twice'),
        ([{'a': 0.5, 'b': 1}, {'b': 1.0, 'a': 0.5}], 'no width twice'),
        ([1.5], 'each width of lr must be in (0, 1], got 1.5'),
    ):
        kind, text = outcome(check_widths, value, check_width)
        assert kind is ValueError and message in text
    for value in (0.5, '0.5', [True], ['0.5'], {0.5}):
        assert outcome(check_widths, value)[0] is TypeError
    assert outcome(check_widths, [{'layer1': 0.5}])[0] is TypeError  # where one width is for all parts


def test_long_values_are_cut_in_the_message():
    assert len(outcome(check_flag, 'x' * 10_000)[1]) < 200
