"""Draw the way of the data: python docs/images/architecture.py"""

from html import escape
from pathlib import Path

BLUE, GREEN, ORANGE, GREY, INK = '#dbe9f9', '#dcf2e3', '#fdebd3', '#eceff3', '#1f2933'
parts = []


def text(x: int, y: int, line: str, size: int = 14, bold: bool = False, middle: bool = True) -> None:
    style = (
        f'font-size="{size}"' + (' font-weight="bold"' if bold else '') + (' text-anchor="middle"' if middle else '')
    )
    parts.append(f'<text x="{x}" y="{y}" {style}>{escape(line)}</text>')


def box(x: int, y: int, width: int, height: int, colour: str, *lines: str) -> None:
    """A box of which the first line is a name."""
    parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour}" stroke="#52606d"/>')
    top = y + height / 2 - 9 * (len(lines) - 1) + 5
    for number, line in enumerate(lines):
        text(x + width // 2, int(top) + 18 * number, line, 13 if number else 14, bold=not number)


def arrow(*points: tuple[int, int]) -> None:
    path = ' '.join(f'{x},{y}' for x, y in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"/>')


def net(x: int, y: int, share: float, label: str) -> None:
    """The channels of a network, of which a width uses the first ones."""
    parts.append(f'<rect x="{x}" y="{y}" width="120" height="16" fill="white" stroke="#52606d"/>')
    parts.append(f'<rect x="{x}" y="{y}" width="{round(120 * share)}" height="16" fill="#3e7cb1" stroke="#52606d"/>')
    text(x - 20, y + 13, label, 13)


for left, name, what in (
    (20, 'config', 'us3l_mm.config'),
    (208, 'Runner', 'us3l_mm.engine'),
    (396, 'data set', 'images, two views'),
    (584, 'preprocessor', 'views on the GPU'),
):
    box(left, 20, 156, 56, GREY, name, what)
for left in (176, 364, 552):
    arrow((left, 48), (left + 30, 48))

parts.append(
    '<rect x="20" y="112" width="720" height="312" rx="12" fill="#f7f9fb" stroke="#52606d" stroke-dasharray="6 4"/>'
)
text(36, 136, 'MultiWidthTraining.run_step: one iteration, in us3l_mm.models', 15, bold=True, middle=False)
arrow((662, 76), (662, 158))
box(40, 160, 190, 76, BLUE, '1. sampler', 'widths of this iteration,', 'from the widest')
box(286, 160, 190, 76, GREEN, '2. teacher', 'EMA of the network,', 'always at width 1.0')
box(532, 160, 190, 76, GREY, 'two views', 'of each image')
arrow((230, 198), (284, 198))
arrow((532, 198), (478, 198))
box(40, 272, 682, 130, 'white')
text(56, 296, '3. for each width: the first channels of every layer', 14, bold=True, middle=False)
for top, share, label in ((310, 1.0, '1.0'), (336, 0.6, '0.6'), (362, 0.25, '0.25')):
    net(98, top, share, label)
box(262, 312, 132, 66, ORANGE, 'forward', 'both views')
box(426, 312, 132, 66, ORANGE, 'loss', 'base or distillation')
box(590, 312, 116, 66, ORANGE, 'update', 'for each width')
for left in (224, 394, 558):
    arrow((left, 345), (left + 30, 345))
arrow((135, 236), (135, 270))
arrow((381, 236), (381, 254), (492, 254), (492, 310))
text(562, 262, 'targets, made once', 13)

arrow((380, 424), (380, 452))
box(270, 454, 220, 54, GREY, 'checkpoint', 'keys of the stock network')
arrow((380, 508), (380, 532))
box(270, 534, 220, 54, BLUE, 'us3l calibrate', 'statistics of each width')
for left, name, what in (
    (20, 'us3l probe', 'accuracy by width'),
    (208, 'us3l choose', 'width for a budget'),
    (396, 'us3l export', 'plain net, ONNX'),
    (584, 'us3l train --width', 'detector of width w'),
):
    arrow((380, 588), (380, 606), (left + 78, 606), (left + 78, 624))
    box(left, 626, 156, 56, GREEN, name, what)

head = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    f'<path d="M0,0L8,4L0,8z" fill="{INK}"/></marker>'
)
size = 'viewBox="0 0 760 702" width="760" height="702"'
paper = '<rect width="760" height="702" rx="12" fill="white"/>'
body = '\n'.join([f'<defs>{head}</defs>', paper, *parts])
Path(__file__).with_suffix('.svg').write_text(
    f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="{INK}">\n{body}\n</svg>\n'
)
