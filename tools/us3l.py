"""Every tool by one command, in any folder: us3l train us3l_mm::us3l/r50_8xb256.py

us3l --help                      the tools
us3l train --help                options of one
us3l configs [PATTERN]           configs that ship, to be named as us3l_mm::FOLDER/NAME.py
source <(us3l completion bash)   completion by TAB; zsh: source <(us3l completion zsh)
"""

import argparse
import difflib
import fnmatch
import os
import re
import runpy
import sys
import types
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(find_spec('us3l_mm').origin).parent  # found, not imported: that takes seconds
TOOLS, CONFIGS = ((PACKAGE / '.mim' / name).resolve() for name in ('tools', 'configs'))
FOLDERS = ('', 'analysis_tools', 'dataset_converters')
NAMES = dict(
    calibrate_bn='calibrate', linear_probe='probe', export_width='export', run_table='table', choose_width='choose'
)
OWN = dict(
    configs='List the configs that ship, all or those whose names have PATTERN in them',
    completion='Print what lets bash or zsh complete commands and options',
)
COMPLETION = """{start}_us3l() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} configs="{configs}"
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case "$before$word" in  # bash makes us3l_mm, :: and the rest three words, zsh one
        ::* | us3l_mm::) COMPREPLY=($(compgen -W "$configs" -- "${{word#::}}")); return ;;
    esac
    case "${{COMP_WORDS[1]}}:$word" in
{options}
        *:us3l_mm::*) COMPREPLY=($(compgen -P us3l_mm:: -W "$configs" -- "${{word#us3l_mm::}}")) ;;
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -F _us3l us3l"""


def find_tools() -> dict[str, Path]:
    """Script of each subcommand."""
    scripts = [path for folder in FOLDERS for path in (TOOLS / folder).glob('*.[ps][yh]') if path.stem != 'us3l']
    return dict(sorted((NAMES.get(path.stem, path.stem.replace('_', '-')), path) for path in scripts))


def find_configs() -> dict[str, Path]:
    """Configs by the names that go behind us3l_mm::"""
    paths = sorted(path for path in CONFIGS.glob('[!_]*/*.py') if path.parent.name != 'tables')
    return {path.relative_to(CONFIGS).as_posix(): path for path in paths}


def summary(path: Path) -> str:
    """First line of the docstring of a Python file, or of the comment of a shell script."""
    text = path.read_text(encoding='utf-8')
    return re.search(r'"""(.*?)(?:\.?"""|\.?\n)|^# (.*?):', text, re.MULTILINE).expand(r'\1\2')


def print_help() -> None:
    """List the subcommands."""
    about = {name: re.split('[:;]', summary(path))[0] for name, path in find_tools().items()} | OWN
    print('usage: us3l COMMAND ...\n\nPretrain once without labels, run at every width.\n')
    print('\n'.join(f'  {name:{max(map(len, about))}}  {text}' for name, text in about.items()))
    print('\nus3l COMMAND --help shows the options of one, us3l --version the version. A config is a path, or the name')
    print('of one that ships, such as us3l_mm::us3l/r50_8xb256.py; all other files are paths.')


def print_configs(arguments: list[str]) -> None:
    """List the configs that ship and whose names match a pattern."""
    parser = argparse.ArgumentParser(prog='us3l configs', description=OWN['configs'])
    parser.add_argument('pattern', nargs='?', default='', help='part of names, such as r50 or us3l/*cifar100')
    pattern = f'*{parser.parse_args(arguments).pattern.removeprefix("us3l_mm::")}*'
    found = {name: path for name, path in find_configs().items() if fnmatch.fnmatch(name, pattern)}
    if not found:
        sys.exit(f'us3l configs: no name matches {pattern}; `us3l configs` lists all')
    for name, path in found.items():
        print(f'us3l_mm::{name:{max(map(len, found))}}  {summary(path)}')


def options_of(path: Path) -> list[str]:
    """Options of a script as it is written, with those of the functions of us3l_mm.utils.arguments that it calls."""
    text = path.read_text(encoding='utf-8')
    for function in (PACKAGE / 'utils/arguments.py').read_text(encoding='utf-8').split('\ndef ')[1:]:
        name = function.partition('(')[0]
        text += function if f'{name}(parser)' in text else ''
    added = ' '.join(re.findall(r"\badd(?:_argument)?\((\s*'--.*)", text))
    return sorted({*re.findall(r"'(--[\w-]+)'", added), '--help'})


def print_completion(arguments: list[str]) -> None:
    """Print a script for bash or zsh that completes subcommands, options and files."""
    parser = argparse.ArgumentParser(prog='us3l completion', description=OWN['completion'])
    parser.add_argument('shell', choices=['bash', 'zsh'], help='your shell, as in: source <(us3l completion bash)')
    zsh = parser.parse_args(arguments).shell == 'zsh'
    tools = find_tools()
    line = '        {}:-*) COMPREPLY=($(compgen -W "{}" -- "$word")) ;;'
    cases = [line.format(name, ' '.join(options_of(path))) for name, path in tools.items() if path.suffix == '.py']
    start = 'autoload -U +X bashcompinit && bashcompinit\n' if zsh else ''
    commands, configs = ' '.join([*tools, *OWN]), ' '.join(find_configs())
    print(COMPLETION.format(start=start, commands=commands, configs=configs, options='\n'.join(cases)))


def run(path: Path, name: str, arguments: list[str]) -> None:
    """Run a script as `python PATH ARGUMENTS` would, but by the name of its subcommand, which runpy would replace."""
    if path.suffix == '.sh':  # whose python is this one
        os.environ['PATH'] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get('PATH', os.defpath)])
        os.execvp('bash', ['bash', str(path), *arguments])
    sys.argv, sys.path[0] = [f'us3l {name}', *arguments], str(path.parent)
    script = sys.modules['__main__'] = types.ModuleType('__main__')
    script.__file__ = str(path)
    exec(compile(path.read_bytes(), path, 'exec'), vars(script))


def main() -> None:
    name, *arguments = sys.argv[1:] or ['--help']
    tools, own = find_tools(), dict(configs=print_configs, completion=print_completion)
    if name in ('-h', '--help', 'help'):
        print_help()
    elif name == '--version':
        print('us3l_mm', runpy.run_path(str(PACKAGE / 'version.py'))['__version__'])
    elif name in tools:
        run(tools[name], name, arguments)
    elif name in own:
        own[name](arguments)
    else:
        like = difflib.get_close_matches(name, [*tools, *own], n=1)
        hint = f'did you mean `us3l {like[0]}`?' if like else '`us3l --help` lists them'
        print(f'us3l: there is no command {name!r}; {hint}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
