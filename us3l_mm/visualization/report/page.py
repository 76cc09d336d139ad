"""Write HTML: a page that needs nothing but itself, and the parts it is made of."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from us3l_mm.utils.tables import MISSING

STYLE = """
:root { color-scheme: light dark; --fg: #1b1f24; --muted: #57606a; --bg: #ffffff; --card: #f6f8fa; --line: #d0d7de;
  --grid: #9aa4ae; --link: #0550ae; --good: #116329; --bad: #a40e26; --wait: #7d4e00;
  --c0: #1f6fb4; --c1: #c65102; --c2: #1a7f37; --c3: #c0272d; --c4: #7d4fc4; --c5: #7a5040; --c6: #b93f95;
  --c7: #66707a; --c8: #7c7a00; --c9: #0e7c86; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e6edf3; --muted: #a3adb8; --bg: #0d1117; --card: #161b22; --line: #3a424c; --grid: #77818c;
    --link: #79b8ff; --good: #56d364; --bad: #ff8b85; --wait: #e3b341;
    --c0: #63b0f4; --c1: #ff9e4a; --c2: #5bd075; --c3: #ff7b72; --c4: #c4a3ff; --c5: #d1a08a; --c6: #f48bd0;
    --c7: #adb5bd; --c8: #d8d54a; --c9: #4fd1dd; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; color: var(--fg);
  background: var(--bg); margin: 0 auto; max-width: 68rem; padding: 1rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0 .8rem; }
.muted, figcaption { color: var(--muted); font-size: .9rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .95rem; }
nav a { padding: .3rem 0; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; min-width: 0; }
.card h3 { margin: 0 0 .3rem; }
.card p:last-child { margin-bottom: 0; }
.word { font-weight: 700; }
.healthy, .finished { color: var(--good); }
.collapsed, .diverged { color: var(--bad); }
.unfinished { color: var(--wait); }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem;
  min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure h3 { margin: 0 0 .4rem; font-size: .95rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; }
figure svg text { fill: var(--fg); }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figure img.small { image-rendering: pixelated; }
figcaption { margin-top: .5rem; }
figure details { margin: .4rem 0 0; font-size: .85rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .5rem 0 0; padding: 0;
  font-size: .85rem; }
.legend i { display: inline-block; width: 1.6em; border-top: 3px solid; margin-right: .4em; vertical-align: .25em; }
.legend i.dashed { border-top-style: dashed; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0 1.2rem; }
.above { margin: 1rem 0 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; overflow-wrap: normal; }
th, td { padding: .4rem .7rem; text-align: right; border-top: 1px solid var(--line); }
thead th { border-top: 0; white-space: nowrap; }
tbody th, thead th:first-child { text-align: left; position: sticky; left: 0; background: var(--bg); min-width: 6rem;
  max-width: 16rem; font-weight: 600; overflow-wrap: anywhere; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: .6rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
dl { display: grid; grid-template-columns: minmax(6rem, 10rem) minmax(0, 1fr); gap: .2rem 1rem; margin: .4rem 0; }
dt { color: var(--muted); }
dd { margin: 0; }
dl.stacked { display: block; }
.stacked dt { color: var(--fg); font-weight: 600; }
.stacked dd { margin-bottom: .6rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem;
  font-size: .85rem; white-space: pre-wrap; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; }
figcaption code { font-size: .85em; }
@media (max-width: 600px) {
  dl { grid-template-columns: minmax(5rem, 6.5rem) minmax(0, 1fr); gap: .2rem .7rem; font-size: .95rem; }
  table { font-size: .85rem; }
  th, td { padding: .35rem .5rem; }
  tbody th, thead th:first-child { min-width: 6rem; max-width: 8rem; }
}
"""
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
_WIDEST, _SMALL = 900, 300  # pixels of an embedded picture: at most, and below which it is enlarged as it is


def page(title: str, body: str) -> str:
    """Make a whole page of its body, which is HTML."""
    return PAGE.format(title=escape(title), style=STYLE, body=body)


def section(anchor: str, title: str, *parts: str) -> str:
    """Make a section with a heading; of no parts, nothing."""
    content = '\n'.join(part for part in parts if part)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{content}\n</section>' if content else ''


def paragraph(text: str, kind: str = '') -> str:
    """Make a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f'<p>{escape(text)}</p>'


def commands(text: str) -> str:
    """Make a block of commands."""
    return f'<pre>{escape(text)}</pre>'


def facts(values: Mapping[str, object], kind: str = '') -> str:
    """Make a list of names and values, without those that are empty; of the kind ``stacked``, one above the other."""
    items = (
        f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>'
        for name, value in values.items()
        if value not in ('', None)
    )
    return f'<dl class="{kind}">{"".join(items)}</dl>'


def fold(summary: str, content: str, opened: bool = False) -> str:
    """Make a part that is opened by a click; ``content`` is HTML."""
    return f'<details{" open" if opened else ""}><summary>{escape(summary)}</summary>{content}</details>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = '') -> str:
    """Make a table that scrolls inside its own box; its first column stays, and None becomes a dash."""
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = ''.join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows
    )
    title = f'<p class="muted above">{escape(caption)}</p>' if caption else ''
    whole = f'<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    return f'{title}<div class="scroll" tabindex="0">{whole}</div>'  # by the keyboard, too


def _cell(value: object) -> str:
    return f'<td>{escape(MISSING if value is None else str(value))}</td>'


def figure(content: str, title: str = '', caption: str = '', command: str = '', wide: bool = False) -> str:
    """Make a figure of a picture, which is HTML, with what is said of it and the command that made it.

    A wide one takes the whole width of the page.
    """
    head = f'<h3>{escape(title)}</h3>' if title else ''
    said = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    made = f'<figcaption>Made by <code>{escape(command)}</code></figcaption>' if command else ''
    kind = ' class="wide"' if wide else ''
    return f'<figure{kind}>{head}{content}{said}{made}</figure>'


def figures(parts: Sequence[str]) -> str:
    """Put figures beside each other where there is room."""
    return f'<div class="figures">{"".join(parts)}</div>' if parts else ''


def is_wide(path: Path) -> bool:
    """Whether a picture needs the whole width of a page to be read."""
    from PIL import Image

    with Image.open(path) as image:
        return image.width > 1.6 * image.height


def picture(path: Path, text: str) -> str:
    """Embed a picture, made smaller where it is large; ``text`` says what it shows."""
    from PIL import Image

    with Image.open(path) as image:
        image = image if image.mode in ('RGB', 'RGBA', 'L') else image.convert('RGB')
        image.thumbnail((_WIDEST, 4 * _WIDEST))
        out = io.BytesIO()
        image.save(out, 'png', optimize=True)
        width, height = image.size
    data = base64.b64encode(out.getvalue()).decode()
    kind = ' class="small"' if width < _SMALL else ''
    return f'<img{kind} alt="{escape(text)}" width="{width}" height="{height}" src="data:image/png;base64,{data}">'
