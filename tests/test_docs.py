"""The pages: their commands fit the tools' parsers, their messages stand in the code, and the first ones run."""

import argparse
import ast
import functools
import importlib.util
import json
import re
import shlex

import onnxruntime
import pytest
import torch

from builders import ROOT, find_script, load_script

PAGES = sorted(
    path
    for pattern in ('*.md', 'docs/**/*.md', 'tools/*.md', 'configs/**/README.md', 'projects/*/README.md')
    for path in ROOT.glob(pattern)
    if path.name != 'CHANGELOG.md' and '_build' not in path.parts
)
# How many words of a launcher stand before the arguments of its tool, and which of them is the config.
LAUNCHERS = dict(dist_train=('train', 2, [0]), dist_test=('test', 3, [0, 1]), slurm_train=('train', 4, [2]))
TEXTS = (ast.Constant, ast.JoinedStr)
HIDDEN = {'--local-rank', '--local_rank'}  # set by launchers
WITHOUT_PARSER = {'configs', 'completion', '--help', '--version', 'COMMAND'}


@pytest.fixture(scope='module')
def made():
    """docs/pages.py, which makes the pages that are made."""
    spec = importlib.util.spec_from_file_location('pages', ROOT / 'docs/pages.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_missing_files(parse, text):
    """Read an argument, or take the name of a file that a command before it would have written."""
    try:
        return parse(text)
    except (argparse.ArgumentTypeError, OSError) as error:
        if 'No such file' not in str(error):
            raise
        return text


@functools.cache
def parser_of(path):
    parser = load_script('parsers').parser_of(path)

    def fail(message):
        raise ValueError(message)

    parser.error = fail
    for action in parser._actions:
        action.type = action.type and functools.partial(with_missing_files, action.type)
    return parser


def command_lines(page):
    """Lines of the shell blocks of a page, and whole commands within its text, where `us3l probe` alone is a name."""
    text = page.read_text(encoding='utf-8')
    blocks = re.compile('^```bash\n(.*?)^```', re.MULTILINE | re.DOTALL)
    for block in blocks.findall(text):
        yield from block.replace('\\\n', ' ').splitlines()
    yield from re.findall(
        r'`((?:us3l [a-z-]+|(?:python|bash) (?:tools|projects)/[^`\s]+) [^`\n]+)`', blocks.sub('', text)
    )


def tool_call(line):
    """Script and arguments of a command of ours, or None."""
    line = re.sub(r'\$\{?\w+(\[@\])?\}?', '0.5', line.replace('<(', ' ').replace('bash)', 'bash'))
    place = re.search(r'(?:^|\s)(us3l|(?:python3?|bash)( -u)? (?:tools|projects)/\S+)\s', line + ' ')
    if not place:
        return None
    words = shlex.split(line[place.start() :], comments=True)
    words = words[: next((at for at, word in enumerate(words) if word in ('&&', '|', '>', 'done')), None)]
    if words[0] == 'us3l':
        if words[1] in WITHOUT_PARSER:
            return None
        return load_script('us3l').find_tools()[words[1]], words[2:]
    at = next(at for at, word in enumerate(words) if '/' in word)
    return ROOT / words[at], words[at + 1 :]


def check_call(script, words):
    """Raise an error if a tool would refuse its arguments, or if a config that it names does not exist."""
    if not script.is_file():
        raise ValueError(f'no {script}')
    for word in words:
        if re.match(r'configs/.*\.py$', word) and not (ROOT / word).is_file():
            raise ValueError(f'no {word}')
        if word.startswith('us3l_mm::') and word[9:] not in load_script('us3l').find_configs():
            raise ValueError(f'no {word}')
    if script.stem in LAUNCHERS:
        tool, count, given = LAUNCHERS[script.stem]
        words = [*(words[at] for at in given), *words[count:]]
        script = find_script(tool)
    if 'parse_args' not in script.read_text():  # a script that runs when it is imported, and has no options
        if words:
            raise ValueError(f'{script.name} takes no arguments')
    elif '--help' not in words:
        parser_of(script).parse_args(words)


@pytest.mark.parametrize('page', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_those_of_the_tools(page):
    faults = []
    for line in command_lines(page):
        try:
            if call := tool_call(line):
                check_call(*call)
        except (ValueError, KeyError, OSError) as error:
            faults.append(f'{line}: {error!r}')
    assert not faults, '\n'.join(faults)


def test_a_wrong_command_is_found():
    for line, what in (
        ('us3l train us3l_mm::us3l/r50_8xb256.py --widht 0.5', 'widht'),
        ('python tools/train.py configs/us3l/none.py', 'no configs/us3l/none.py'),
        ('us3l calibrate CONFIG', 'checkpoint'),
        ('bash tools/dist_train.sh CONFIG 8 --epochs x', 'epochs'),
    ):
        with pytest.raises(ValueError, match=what):
            check_call(*tool_call(line))
    with pytest.raises(KeyError, match='trian'):
        tool_call('us3l trian CONFIG')


def test_targets_of_make_exist():
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    named = {
        name for page in PAGES for line in command_lines(page) for name in re.findall(r'(?:^|&& )make ([a-z]+)', line)
    }
    assert {'demo', 'test', 'setup'} <= named <= targets


# Messages


def test_messages_of_the_pages_stand_in_the_code(made):
    code = '\0'.join(
        made.text_of(node)
        for path in made.code_files()
        for node in ast.walk(made.tree(path))
        if isinstance(node, TEXTS)
    )
    shown = []
    for page in PAGES:
        for table in re.findall(r'^\| (?:what )?it says \|.*?(?:\n\n|\Z)', page.read_text(), re.MULTILINE | re.DOTALL):
            shown += [(page.name, message) for message in re.findall(r'^\| `(.+?)` \|', table, re.MULTILINE)]
    shown += [
        ('faq.md', name)
        for name in re.findall(r'^### `(.+)`$', (ROOT / 'docs/faq.md').read_text(), re.MULTILINE)
        if 'Error' not in name
    ]
    assert len(shown) > 100
    missing = []
    for name, message in shown:
        if not re.search('[^\0]*'.join(map(re.escape, message.split('...'))), code):
            missing.append(f'{name}: {message}')
    assert not missing, '\n'.join(missing)


def test_page_of_messages_has_those_that_are_raised(made):
    page = made.errors()
    for message, place in (
        ('no checkpoint ...', 'plain_model.py'),
        ('nothing to calibrate: ... has no slimmable batch norm, so it needs no calibration', 'calibrate.py'),
        ('give a budget: ...', 'choose_width.py'),
    ):
        assert re.search(rf'^\| `` {re.escape(message)} `` \| `\w+` \| `{place}` \|$', page, re.MULTILINE), message


def test_page_of_commands_has_every_option(made):
    page = made.command_line()
    us3l = load_script('us3l')
    for name, path in us3l.find_tools().items():
        (part,) = re.findall(rf'^## us3l {name}\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
        if path.suffix == '.py':
            assert f'usage: us3l {name} [-h]' in part
            assert set(us3l.options_of(path)) - HIDDEN <= set(re.findall(r'--[\w-]+', part)), name


def test_front_page_leads_to_pages_that_exist(made):
    text = made.front_page()
    links = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    assert len(links) > 20 and not [link for link in links if not (ROOT / 'docs' / link).resolve().exists()]
    assert not [link for link in links if 'docs/' in link]


def test_every_room_has_a_page_of_its_api():
    rooms = {path.parent.name for path in ROOT.glob('us3l_mm/*/__init__.py')} - {'compat'}  # which users do not call
    listed = re.search(r'```{toctree}\n(.*?)```', (ROOT / 'docs/api/index.md').read_text(), re.DOTALL)[1].split()
    assert {*listed} == rooms == {path.stem for path in ROOT.glob('docs/api/*.md')} - {'index'}


# The first pages, run


def python_blocks(page):
    return re.findall(r'^```python\n(.*?)^```$', (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_code_of_the_first_pages_runs():
    names = {}
    (quick,) = python_blocks('docs/quick_start.md')
    exec(compile(quick, 'quick_start.md', 'exec'), names)
    assert names['features'].shape == (4, 256, 2, 2) and names['backbone'](names['images'])[0].shape[1] == 512
    for block in python_blocks('README.md'):
        exec(compile(block, 'README.md', 'exec'), names)
    assert torch.equal(names['features'][0], names['narrow'](names['images'])[0])


TINY = ['train_dataloader.dataset.per_class=4']
SMALLER = dict(
    train=['--epochs', '1', '--cfg-options', *TINY, 'train_dataloader.batch_size=16'],
    calibrate=['--cfg-options', *TINY, 'train_dataloader.batch_size=16'],
    probe=['--cfg-options', *TINY, 'test_dataloader.dataset.per_class=4'],
)


@pytest.mark.slow
def test_quick_start_leads_from_digits_to_onnx(run_tool, tmp_path, capsys):
    tools = load_script('us3l').find_tools()
    text = (ROOT / 'docs/quick_start.md').read_text().replace('epoch_16', 'epoch_1')
    (block,) = re.findall(r'## By commands\n\n```bash\n(.*?)```', text, re.DOTALL)
    for line in block.replace('\\\n', '').splitlines():
        _, name, *words = shlex.split(line)
        words = [re.sub('^work_dirs', str(tmp_path), word) for word in words]
        run_tool(tools[name].stem, *words, *SMALLER.get(name, []))
    assert 'chosen: width 0.5.' in capsys.readouterr().out
    rows = json.loads((tmp_path / 'first_probe/fast_probe.json').read_text())['widths']
    assert [row['width'] for row in rows] == [1.0, 0.75, 0.5, 0.25]
    (onnx,) = (tmp_path / 'first').glob('*.onnx')
    assert onnxruntime.InferenceSession(str(onnx)).get_inputs()[0].shape[1:] == [3, 16, 16]
    assert (tmp_path / 'first.html').is_file()
