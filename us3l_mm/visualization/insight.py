"""A picture of what happens inside a network, with its numbers and what they say."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from us3l_mm.utils.files import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Insight:
    """A picture with its numbers.

    Attributes:
        name (str): Name of its files.
        title (str): What it shows.
        says (str): One or two sentences that follow from the numbers.
        table (str): The numbers that matter most, as a Markdown table.
        figure (Figure): The picture.
        data (dict[str, Any]): The numbers, as JSON takes them; NaN is written as null.
    """

    name: str
    title: str
    says: str
    table: str
    figure: 'Figure'
    data: dict[str, Any]


def write_insight(insight: Insight, folder: Path, command: str) -> Path:
    """Write NAME.png and NAME.json into a folder; return the path of the picture.

    Args:
        insight (Insight): What to write.
        folder (Path): Folder, made if it is missing.
        command (str): Command that made it, which stands in the JSON.
    """
    picture = folder / f'{insight.name}.png'
    facts = dict(title=insight.title, says=insight.says, command=command, data=_finite(insight.data))
    text = json.dumps(facts, indent=1, allow_nan=False) + '\n'
    files = {
        picture: lambda path: insight.figure.savefig(path, format='png', dpi=120),
        picture.with_suffix('.json'): lambda path: path.write_text(text, encoding='utf-8'),
    }
    write_files(files, force=True)
    return picture


def _finite(node: Any) -> Any:
    """Replace NaN by None, which JSON has a word for."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
