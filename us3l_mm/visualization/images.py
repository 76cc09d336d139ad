"""Draw images in a grid, with frames, heat maps and titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass
class Picture:
    """An image in a grid.

    Attributes:
        pixels (np.ndarray): RGB values of shape (height, width, 3), uint8.
        title (str): Line above it. Defaults to none.
        frame (str, optional): Colour of a frame around it. Defaults to None: no frame.
        heat (np.ndarray, optional): Values (h, w), drawn over the image in colours from blue (the least of them) to
            red (the most). Defaults to None.
    """

    pixels: np.ndarray
    title: str = ''
    frame: str | None = None
    heat: np.ndarray | None = None


def axes_grid(rows: int, columns: int, side: float, title: str) -> 'tuple[Figure, np.ndarray]':
    """Make a page of axes without ticks, ``side`` inches each; return it with the axes (rows, columns)."""
    from matplotlib.figure import Figure  # here: nothing else needs it

    figure = Figure(figsize=(side * columns, side * rows + 0.4), layout='constrained', dpi=120)
    figure.suptitle(title, fontsize='medium')
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    return figure, grid


def draw_pictures(rows: Sequence[Sequence[Picture | None]], labels: Sequence[str], title: str, side: float) -> 'Figure':
    """Draw rows of pictures.

    Args:
        rows (Sequence[Sequence[Picture | None]]): Pictures of each row, of one length; None leaves a place empty.
        labels (Sequence[str]): Text on the left of each row.
        title (str): Line above the page.
        side (float): Side of a picture in inches.
    """
    figure, grid = axes_grid(len(rows), len(rows[0]), side, title)
    for line, pictures, label in zip(grid, rows, labels):
        for axes, picture in zip(line, pictures):
            if picture is None:
                axes.set_box_aspect(1)  # in line with the pictures
                axes.spines[:].set_visible(False)
            else:
                _draw(axes, picture)
        line[0].set_ylabel(label, fontsize='x-small')
    return figure


def _draw(axes: 'Axes', picture: Picture) -> None:
    height, width = picture.pixels.shape[:2]
    place = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(picture.pixels, interpolation='nearest', extent=place)
    if picture.heat is not None:
        axes.imshow(picture.heat, cmap='jet', alpha=0.5, interpolation='bilinear', extent=place)
    axes.set_title(picture.title, fontsize='x-small')
    for spine in axes.spines.values():
        spine.set(color=picture.frame or 'lightgrey', linewidth=2 if picture.frame else 1)
