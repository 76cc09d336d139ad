"""Draw curves twice: as SVG that follows the colours of a page, and as a PNG file beside it."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from ..curves import Curve, Panel, plot_panels
from . import page

# Colours of matplotlib's figures, and the variable of the page's style that takes their place.
_COLOURS = {'#000000': '--fg', '#ffffff': '--card', '#b0b0b0': '--grid', '#cccccc': '--line', '#808080': '--c7'}
_CYCLE = ('1f77b4', 'ff7f0e', '2ca02c', 'd62728', '9467bd', '8c564b', 'e377c2', '7f7f7f', 'bcbd22', '17becf')
_VARIABLES = {**_COLOURS, **{f'#{colour}': f'--c{i}' for i, colour in enumerate(_CYCLE)}}
_MANY = 8  # entries of a legend that are folded


def coloured(curves: Sequence[Curve]) -> list[Curve]:
    """Give each curve that has none a colour of its own."""
    return [replace(curve, options={'color': f'C{i % 10}', **curve.options}) for i, curve in enumerate(curves)]


@dataclass
class Drawings:
    """Figures of a report.

    Attributes:
        folder (Path): Where the PNG files go.
        files (dict[Path, Callable[[Path], object]]): Writers of these files, as
            :func:`~us3l_mm.utils.files.write_files` takes them.
    """

    folder: Path
    files: dict[Path, Callable[[Path], object]] = field(default_factory=dict)

    def draw(self, name: str, panel: Panel, caption: str = '', command: str = '', least: float | None = None) -> str:
        """Draw a panel; return it as a figure of the page, and note its PNG file.

        Args:
            name (str): Name of the file, made of letters, digits, ``-`` and ``_``.
            panel (Panel): Panel; its title becomes the heading.
            caption (str): What it says. Defaults to nothing.
            command (str): Command that made it. Defaults to none.
            least (float, optional): Lower end of the vertical axis. Defaults to None: what the curves ask for.
        """
        panel = replace(panel, curves=coloured(panel.curves))
        png = plot_panels([panel], width=6, height=4)
        bare = replace(panel, title='', curves=[replace(curve, label=None) for curve in panel.curves])
        svg = plot_panels([bare], width=4.2, height=2.9)
        for drawn in (png, svg):
            if least is not None:
                drawn.axes[0].set_ylim(bottom=least)
        path = self.folder / f'{re.sub("[^A-Za-z0-9_-]+", "-", name)}.png'
        self.files[path] = lambda part: png.savefig(part, format='png', dpi=120, bbox_inches='tight')
        content = _svg(svg, f'{panel.title}: {panel.ylabel} over {panel.xlabel}') + _legend(panel.curves)
        return page.figure(content, panel.title, caption, command)


def _svg(figure, text: str) -> str:
    """Write a figure as SVG for a page, in its colours and letters, without what names other places."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({'svg.fonttype': 'none'}):
        figure.savefig(out, format='svg', metadata={'Date': None})
    svg = out.getvalue()
    svg = re.sub(r'<(metadata|style).*?</\1>|<!--.*?-->', '', svg[svg.index('<svg') :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', '', svg).replace('xlink:href', 'href')
    used = set(re.findall(r'#(\w+)[")]', svg))
    svg = re.sub(' id="([^"]*)"', lambda found: found[0] if found[1] in used else '', svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", 'system-ui, sans-serif', svg)
    svg = re.sub(
        r'#[0-9a-f]{6}', lambda found: f'var({_VARIABLES[found[0]]})' if found[0] in _VARIABLES else found[0], svg
    )
    return svg.replace('<svg ', f'<svg role="img" aria-label="{escape(text)}" ', 1)


def _legend(curves: Sequence[Curve]) -> str:
    """List the curves by their labels, each after a piece of its line."""
    items = []
    for curve in curves:
        if curve.label:
            colour = curve.options['color']
            variable = f'--c{colour[1:]}' if colour[1:].isdigit() else '--c7'
            dashed = ' class="dashed"' if '--' in curve.options.get('fmt', '') else ''
            items.append(f'<li><i{dashed} style="color: var({variable})"></i>{escape(curve.label)}</li>')
    listed = f'<ul class="legend">{"".join(items)}</ul>' if items else ''
    return page.fold(f'{len(items)} curves', listed) if len(items) > _MANY else listed
