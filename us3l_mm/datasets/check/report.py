"""What a check of data sets hands back."""

from dataclasses import dataclass, field


@dataclass
class Finding:
    """What is wrong with some files, boxes or classes.

    Attributes:
        level (str): ``'error'``, or ``'warning'`` for what a training can bear.
        split (str): Where, such as ``'train'``, or ``'train, val'`` for what lies between them.
        what (str): What is wrong, in the plural.
        fix (str): What to do about it.
        names (list[tuple[str, str]]): Each file or class with a detail, which may be empty.
    """

    level: str
    split: str
    what: str
    fix: str
    names: list[tuple[str, str]] = field(default_factory=list)

    def text(self, most: int = 3) -> str:
        """Write it in a line, with the first names."""
        named = [f'{name} ({detail})' if detail else name for name, detail in self.names[:most]]
        rest = f' and {len(self.names) - most} more' if len(self.names) > most else ''
        return f'{self.split}: {len(self.names)} {self.what}: {", ".join(named)}{rest}. {self.fix}'


@dataclass
class Split:
    """What a split holds.

    Attributes:
        name (str): Name, such as ``'train'``.
        images (int): Number of image files, each counted once.
        complete (bool): Whether all entries of the data set were looked at, not a sample.
        paths (list[str]): The files that were looked at, if only by name.
        sampled (list[str]): Those that were decoded, or should have been.
        sizes (list[tuple[int, int]]): Width and height of those that could be, in pixels, by area.
        grey (int): How many of these have no colour.
        classes (tuple[str, ...] | None): Names in the order of their labels.
        count (dict[str, int]): Images of each class, or boxes of it; empty without labels.
        boxes (int | None): Number of boxes; None for images without annotations.
        without_boxes (list[str]): Images with annotations, but without boxes.
    """

    name: str
    images: int = 0
    complete: bool = True
    paths: list[str] = field(default_factory=list)
    sampled: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grey: int = 0
    classes: tuple[str, ...] | None = None
    count: dict[str, int] = field(default_factory=dict)
    boxes: int | None = None
    without_boxes: list[str] = field(default_factory=list)


class Book:
    """Findings by their kind."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, str], Finding] = {}

    def add(self, level: str, split: str, what: str, fix: str, name: str, detail: str = '') -> None:
        """Add a file or class to a finding."""
        finding = self._found.setdefault((level, split, what, fix), Finding(level, split, what, fix))
        finding.names.append((name, detail))

    def findings(self) -> list[Finding]:
        """List the findings in the order in which they were made."""
        return list(self._found.values())
