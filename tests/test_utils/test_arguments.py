"""Options that tools share."""

import argparse

import pytest
from mmengine.config import DictAction

from us3l_mm.utils.arguments import CfgOptions

VALUES = [
    'a=1',
    'b=x,y',
    'c=[1, 2.5]',
    'd=(3, 4)',
    'e=[(a, b), (c, d)]',
    'f=/path/file',
    'g=True',
    'h="quoted"',
    'i=x=y',
]


def parse(action, *values):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=action)
    return parser.parse_args(['--cfg-options', *values]).cfg_options


def test_values_are_those_of_mmengine():
    assert parse(CfgOptions, *VALUES) == parse(DictAction, *VALUES)


@pytest.mark.parametrize('value', ['data_root=/my data', 'classes=[big cat,dog]', "a='x y'"])
def test_text_with_spaces_is_refused_by_name(value, capsys):
    assert ' ' not in str(parse(DictAction, value)).replace(': ', '').replace(', ', '')  # or there was no need
    with pytest.raises(SystemExit):
        parse(CfgOptions, value)
    assert f'{value.split("=")[0]}=' in (said := capsys.readouterr().err) and 'has spaces' in said


def test_key_without_a_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(CfgOptions, 'data_root')
    assert "takes key=value pairs, got 'data_root'" in capsys.readouterr().err
