"""Options of every tool: numbers out of range are refused, and the help says what each is for, with an example."""

import argparse
import functools
import re

import pytest

from builders import ROOT, find_script, load_script

SCRIPTS = sorted(
    path.stem
    for folder in ('tools', 'projects')
    for path in (ROOT / folder).rglob('*.py')
    if 'parse_args()' in path.read_text() and 'tests' not in path.parts
)
USED = [name for name in SCRIPTS if not {'benchmarks', 'fault', 'dev'} & set(find_script(name).parts)]
EXAMPLE = re.compile(r'such as \S|, as \S|key=value|if not given|\d')
# Set by launchers.
NOT_OURS = {'local_rank'}


def parser_of(script):
    return load_script('parsers').parser_of(find_script(script))


def numbers(parser):
    """Options that take numbers, and whether those may be fractions: what passes '1' and refuses text."""
    for action in parser._actions:
        takes = functools.partial(accepts, parser, action)
        if action.type is not None and takes('1') and not takes('some text') and action.dest not in NOT_OURS:
            yield action


def accepts(parser, action, text):
    try:
        parser._get_value(action, text)
    except argparse.ArgumentError:
        return False
    return True


@pytest.mark.parametrize('script', SCRIPTS)
def test_numbers_out_of_range_are_refused(script):
    parser = parser_of(script)
    for action in numbers(parser):
        for text in ('-1', 'nan', 'inf', '-inf', '1e999', '', 'True'):
            assert not accepts(parser, action, text), f'{action.dest}={text}'
        least = [text for text in ('0', '0.5', '1') if accepts(parser, action, text)]
        assert least, action.dest


def test_message_of_a_number_names_the_option_and_the_range(capsys):
    parser = parser_of('calibrate_bn')
    for text, got in (('0', '0 of type int'), ('1.5', "'1.5' of type str"), ('x', "'x' of type str")):
        with pytest.raises(SystemExit):
            parser.parse_args(['config', 'checkpoint', '--num-batches', text])
        assert f'--num-batches: it must be a whole number from 1, got {got}' in capsys.readouterr().err


@pytest.mark.parametrize('script', USED)
def test_options_are_explained_by_an_example(script):
    for action in parser_of(script)._actions:
        if action.help == argparse.SUPPRESS or action.dest == 'help':
            continue
        assert action.help, action.dest
        takes_any = action.nargs != 0 and not action.choices and action.default in (None, False)
        assert not takes_any or EXAMPLE.search(action.help), f'{action.dest}: {action.help}'


@pytest.mark.parametrize('script', [name for name in USED if find_script(name).is_relative_to(ROOT / 'tools')])
def test_completion_knows_every_option(script):
    actions = parser_of(script)._actions
    options = {option for action in actions for option in action.option_strings if option.startswith('--')}
    assert {*load_script('us3l').options_of(find_script(script))} == options
