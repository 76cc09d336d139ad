"""What the pages take from the code when they are built: options of tools, configs, messages; and formulas as MathML.

A line `<!-- made by docs/pages.py -->` in a page of MADE is replaced. Nothing is downloaded.
"""

import ast
import functools
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parents[1]
# Pages that stand in another place than what they are of.
PAGES = {'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md', 'tools/README.md': 'command_line.md'}
MARKER = '<!-- made by docs/pages.py -->'


def load(name: str):
    """Import a script of tools/."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / 'tools' / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def front_page() -> str:
    """README.md, with links as they are from this folder."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')

    def move(link: re.Match) -> str:
        target = link[1]
        here = PAGES.get(target) or re.sub('^docs/|^projects/(.*)/README', r'\1', target)
        return f']({here if (ROOT / "docs" / here).is_file() else f"../{target}"})'

    return re.sub(r'\]\((?!https?:|#)([^)]+)\)', move, text)


def command_line() -> str:
    """What `--help` of every subcommand prints."""
    parser_of, us3l = load('dev/parsers.py').parser_of, load('us3l.py')
    os.environ['COLUMNS'] = '90'  # what fits the page
    tools = us3l.find_tools()
    parts = [f'| [us3l {name}](#us3l-{name}) | {us3l.summary(path)} |' for name, path in tools.items()] + ['']
    for name, path in tools.items():
        if path.suffix == '.sh':
            lines = [line[2:] for line in path.read_text().splitlines()[1:] if line.startswith('# ')]
            text = '\n'.join(line for line in lines if not line.startswith('shellcheck '))
        else:
            parser = parser_of(path)
            parser.prog = f'us3l {name}'
            text = parser.format_help()
        parts.append(f'## us3l {name}\n\n`{path.relative_to(us3l.TOOLS.parent)}`\n\n```text\n{text.strip()}\n```\n')
    return '\n'.join(parts)


def configs() -> str:
    """Every config that ships, with what its docstring begins with."""
    us3l, parts, folder = load('us3l.py'), [], ''
    for name, path in us3l.find_configs().items():
        if path.parent.name != folder:
            folder = path.parent.name
            parts.append(f'\n### `{folder}/`\n\n| name | what it is |\n|---|---|')
        parts.append(f'| `us3l_mm::{name}` | {us3l.summary(path)} |')
    return '\n'.join(parts)


def text_of(node: ast.expr) -> str:
    """A text as it stands in the code, with `...` for each value put into it; empty if it is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ''
    if isinstance(node, ast.JoinedStr):
        return re.sub(r'(\.\.\.)+', '...', ''.join(text_of(part) or '...' for part in node.values))
    if isinstance(node, ast.BinOp):
        return (text_of(node.left) or '...') + (text_of(node.right) or '...')
    return ''


def raised(path: Path) -> Iterator[tuple[str, str]]:
    """Name and message of each error that a file raises, or that it hands to argparse or `sys.exit`."""
    for node in ast.walk(tree(path)):
        call = node.exc if isinstance(node, ast.Raise) else node
        if isinstance(call, ast.Call) and call.args:
            name = ast.unparse(call.func)
            if isinstance(node, ast.Raise) or name in ('parser.error', 'sys.exit'):
                text = text_of(call.args[0])
                if re.search(r'\w \w', text):
                    yield name.split('.')[-1].replace('exit', 'SystemExit').replace('error', 'usage'), text


@functools.cache
def tree(path: Path) -> ast.Module:
    """Syntax of a file."""
    return ast.parse(path.read_text(encoding='utf-8'))


def code_files() -> list[Path]:
    """Files whose errors a user can meet: the package and the tools, without those for developers of this project."""
    tools = [
        path
        for folder in ('', 'analysis_tools', 'dataset_converters')
        for path in (ROOT / 'tools' / folder).glob('*.py')
    ]
    rooms = [path for path in (ROOT / 'us3l_mm').rglob('*.py') if '.mim' not in path.parts]
    return sorted(rooms, key=lambda path: (path.parent, path)) + [ROOT / 'tools/us3l', *sorted(tools)]


def errors() -> str:
    """All messages by the part of the code that raises them."""
    parts, room = [], ''
    for path in code_files():
        found = list(raised(path))
        place = path.relative_to(ROOT)
        if found and place.parent.parts[:2] != room:
            room = place.parent.parts[:2]
            parts.append(f'\n## {"/".join(room)}\n\n| message | error | from |\n|---|---|---|')
        for name, text in found:
            shown = ' '.join(text.split()).replace('|', '\\|')
            parts.append(f'| `` {shown} `` | `{name}` | `{place.name}` |')
    return '\n'.join(parts)


MADE = dict(index=front_page, command_line=command_line, configs=configs, errors=errors)


def fill(app, docname: str, source: list[str]) -> None:
    """Replace the marker of a page."""
    if docname in MADE:
        source[0] = source[0].replace(MARKER, MADE[docname]())


def shorten(
    app, what, name, obj, options, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Name types without their modules where defaults such as `<factory>` keep Sphinx from doing so."""
    if signature and '<factory>' in signature:
        signature = re.sub(r'~?\b(?:[a-z_\d]+\.)+(?=[A-Z])', '', signature)
    return signature, returned


def visit_math(self, node) -> None:
    """Write a formula as MathML, which browsers draw without a script from elsewhere."""
    block = isinstance(node, nodes.math_block)
    self.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app) -> dict:
    """Sphinx calls this."""
    app.connect('source-read', fill)
    app.connect('autodoc-process-signature', shorten)
    app.connect('env-get-outdated', lambda *_: list(MADE))  # the code may have changed
    app.add_html_math_renderer('mathml', (visit_math, None), (visit_math, None))
    return dict(parallel_read_safe=True)
