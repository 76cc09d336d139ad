"""The command us3l: one name for every tool, by the code of tools/."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.fileio import load
from torch.utils.data import DataLoader

from builders import ROOT, load_script
from us3l_mm.config import read_config
from us3l_mm.utils.arguments import run_main
from us3l_mm.version import __version__

TOOLS = load_script('us3l').find_tools()
# What a command needs beside its config and checkpoint.
NEEDED = {
    'choose': ['--max-macs', '1G'],
    'export': ['--width', '0.5', '--format', 'dense'],
    'transfer': ['--datasets', 'cifar10'],
}
PRETRAINING, PROBE = (f'us3l_mm::digits/{name}_digits.py' for name in ('r18_1xb64-16e', 'r18_1xb128-20e'))


def tools_with(argument):
    return [name for name, path in TOOLS.items() if re.search(rf"\(\s*'{argument}'", path.read_text())]


@pytest.fixture
def us3l(monkeypatch):
    """Call the command in this process as a shell would."""
    module = load_script('us3l')

    def call(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', ['bin/us3l', *arguments])
            patch.setattr(sys, 'path', [*sys.path])
            patch.setitem(sys.modules, '__main__', sys.modules['__main__'])
            module.main()

    call.module = module
    return call


def test_every_tool_has_a_command_a_summary_and_a_place_in_the_readme(us3l, capsys):
    us3l()
    listed = dict(re.findall(r'^  ([\w-]+) +(\S.*)$', capsys.readouterr().out, re.MULTILINE))
    text, _, _ = (ROOT / 'tools/README.md').read_text().partition('For developers')
    scripts = dict(re.findall(r'^\| \[\S+\]\((\S+)\) \| `us3l ([\w-]+)` \|', text, re.MULTILINE))
    tools = us3l.module.find_tools()
    assert {str(path.relative_to(ROOT / 'tools')): name for name, path in tools.items()} == scripts
    assert listed.keys() == {*tools, 'configs', 'completion'}
    assert len({*listed.values()}) == len(listed)


@pytest.mark.parametrize(('typed', 'meant'), [('trian', 'train'), ('calibrate_bn', 'calibrate'), ('config', 'configs')])
def test_mistyped_command_suggests_the_nearest(us3l, capsys, typed, meant):
    with pytest.raises(SystemExit) as stopped:
        us3l(typed, 'x')
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"us3l: there is no command '{typed}'; did you mean `us3l {meant}`?\n"


def test_unlike_any_command(us3l, capsys):
    with pytest.raises(SystemExit, match='2'):
        us3l('qqqq')
    assert '`us3l --help` lists them' in capsys.readouterr().err


def test_tools_call_themselves_by_their_command(us3l, capsys):
    with pytest.raises(SystemExit, match='2'):
        us3l('choose', '--max-macs')
    assert capsys.readouterr().err.startswith('usage: us3l choose [-h]')


def test_tool_runs_as_by_its_path(us3l, run_tool, tmp_path, monkeypatch):
    """From any folder, with a config by its name and by its path."""
    monkeypatch.chdir(tmp_path)
    options = ('--widths', '1.0', '0.5', '--no-latency', '--cfg-options', 'model.backbone.base_channels=4')
    us3l('analyze-widths', 'us3l_mm::digits/r18_1xb64-16e_digits.py', *options, '--out', 'by_name')
    run_tool('analyze_widths', 'configs/digits/r18_1xb64-16e_digits.py', *options, '--out', tmp_path / 'by_path')
    by_name, by_path = (load(tmp_path / f'by_{what}.json')['widths'] for what in ('name', 'path'))
    assert by_name == by_path and [row['width'] for row in by_name] == [1.0, 0.5]


def test_configs_are_listed_by_names_that_can_be_read(us3l, capsys):
    us3l('configs', 'us3l/vit')
    listed = re.findall(r'^(us3l_mm::\S+)  +(\S.*)$', capsys.readouterr().out, re.MULTILINE)
    paths = sorted((ROOT / 'configs/us3l').glob('vit*.py'))
    assert [name for name, _ in listed] == [f'us3l_mm::us3l/{path.name}' for path in paths]
    for (name, summary), path in zip(listed, paths, strict=True):
        assert read_config(name).to_dict() == read_config(str(path)).to_dict()
        assert path.read_text().startswith(f'"""{summary}')
    us3l('configs')
    every = {path.relative_to(ROOT / 'configs').as_posix() for path in ROOT.glob('configs/[!_]*/*.py')}
    found = set(re.findall(r'us3l_mm::(\S+)', capsys.readouterr().out))
    assert found == {name for name in every if not name.startswith('tables/')}


def test_configs_of_other_names(us3l):
    with pytest.raises(SystemExit, match=r'no name matches \*xyz\*; `us3l configs` lists all'):
        us3l('configs', 'xyz')
    with pytest.raises(
        FileNotFoundError, match=r'us3l_mm::us3l/r50_8xb265.py; did you mean us3l_mm::us3l/r50_8xb256\.py\?$'
    ):
        read_config('us3l_mm::us3l/r50_8xb265.py')
    with pytest.raises(FileNotFoundError, match="no config file nothing::.*: no package 'nothing'"):
        read_config('nothing::us3l/r50_8xb256.py')


@pytest.mark.parametrize('name', [*tools_with('config'), *tools_with('--config')])
def test_mistyped_config_ends_in_a_line(us3l, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={'backbone.x': torch.ones(1)}), 'a.pth')
    config = [*(['--config'] if name in tools_with('--config') else []), 'us3l_mm::us3l/r50_8xb265.py']
    count = 2 if name == 'temporal-consistency' else name in tools_with('checkpoint')
    message = r'^error: no config file us3l_mm::us3l/r50_8xb265.py; did you mean us3l_mm::us3l/r50_8xb256.py\?$'
    with pytest.raises(SystemExit, match=message):
        us3l(name, *config, *['a.pth'] * count, *NEEDED.get(name, []))


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('analyze-features', [PROBE]),
        ('analyze-weights', []),
        ('calibrate', [PRETRAINING]),
        ('choose', [PRETRAINING]),
        ('export', [PRETRAINING]),
        ('play', []),
        ('probe', [PROBE, '--protocol', 'fast']),
        ('publish', []),
        ('transfer', []),
    ],
)
def test_missing_checkpoint_ends_in_a_line(us3l, name, config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        us3l(name, *config[:1], 'no/such.pth', *config[1:], *NEEDED.get(name, []))
    told = capsys.readouterr().err.splitlines()[-1] if stopped.value.code == 2 else stopped.value.code
    assert re.fullmatch(r'(us3l \S+: )?error: .*no/such\.pth.*', told)


def test_errors_of_the_system_keep_their_traceback():
    with pytest.raises(FileNotFoundError):
        run_main(Path('no/such/file').read_text)


def test_errors_of_a_data_loader_s_worker_keep_their_traceback():
    loader = DataLoader([Path('no/such/file')], collate_fn=lambda paths: paths[0].read_text(), num_workers=1)
    with pytest.raises(FileNotFoundError, match='worker process'):
        run_main(lambda: next(iter(loader)))


def test_scripts_of_the_shell_take_the_python_of_the_command(us3l, monkeypatch):
    def leave(*call):  # as exec does
        raise SystemExit(*call, os.environ['PATH'])

    monkeypatch.setenv('PATH', '/bin')
    monkeypatch.setattr('os.execvp', leave)
    with pytest.raises(SystemExit) as left:
        us3l('dist-train', 'x.py', '2')
    program, arguments, path = left.value.args
    assert program == 'bash' and arguments[2:] == ['x.py', '2']
    assert path == f'{os.path.dirname(sys.executable)}{os.pathsep}/bin'


def test_help_is_a_command_too(us3l, capsys):
    us3l('--help')
    option = capsys.readouterr().out
    us3l('help')
    assert capsys.readouterr().out == option


def test_version(us3l, capsys):
    us3l('--version')
    assert capsys.readouterr().out == f'us3l_mm {__version__}\n'


@pytest.mark.slow  # starts processes
def test_command_starts_without_the_package():
    code = (
        'import runpy, sys\n'
        "sys.argv = ['us3l', '--help']\n"
        f"runpy.run_path({str(ROOT / 'tools/us3l')!r}, run_name='__main__')\n"
        "assert not {'torch', 'numpy', 'mmengine', 'us3l_mm'} & set(sys.modules), sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith('usage: us3l COMMAND')


@pytest.mark.slow
def test_bash_completes(us3l, capsys):
    us3l('completion', 'bash')
    script = capsys.readouterr().out

    def complete(*words):
        code = f'{script}\nCOMP_WORDS=({" ".join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _us3l'
        done = subprocess.run(
            ['bash', '-c', code + '; printf "%s\\n" "${COMPREPLY[@]}"'], cwd=ROOT, capture_output=True, text=True
        )
        assert not done.stderr
        return done.stdout.split()

    assert complete('us3l', 'tra') == ['train', 'transfer']
    assert complete('us3l', 'train', 'x.py', '--am') == ['--amp']
    assert complete('us3l', 'train', 'x.py', '--image') == ['--image-size']  # of us3l_mm.utils.arguments
    assert complete('us3l', 'train', 'README') == ['README.md']
    assert complete('us3l', 'train', 'us3l_mm', '::', 'us3l/r50_8xb60') == ['us3l/r50_8xb60.py']  # as bash has it
    assert complete('us3l', 'train', 'us3l_mm', '::') == list(us3l.module.find_configs())
    assert complete('us3l', 'train', 'us3l_mm::us3l/r50_8xb60') == ['us3l_mm::us3l/r50_8xb60.py']
    us3l('completion', 'zsh')
    assert capsys.readouterr().out == f'autoload -U +X bashcompinit && bashcompinit\n{script}'
