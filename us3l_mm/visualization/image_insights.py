"""Grids of images: what a network finds alike, and where it looks, at several widths.

Shapes: N images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from us3l_mm.utils.tables import markdown_table

from .images import Picture, draw_pictures
from .insight import Insight

RIGHT, WRONG = 'tab:green', 'tab:red'


@dataclass
class Images:
    """Labelled images of which some are shown.

    Attributes:
        labels (Tensor): Labels (N,).
        classes (Sequence[str]): Names of the labels.
        indices (Sequence[int]): Place of each image in its data set.
        pixels (Callable[[int], np.ndarray]): Gives the pixels of an image, (height, width, 3), uint8.
    """

    labels: Tensor
    classes: Sequence[str]
    indices: Sequence[int]
    pixels: Callable[[int], np.ndarray]

    def named(self, i: int) -> Picture:
        """Image ``i`` below its class and place."""
        return Picture(self.pixels(i), f'{self.classes[self.labels[i]]} (image {self.indices[i]})')

    def told(self, i: int) -> dict:
        """What a file says of image ``i``."""
        return dict(image=self.indices[i], label=self.classes[self.labels[i]])


def _frame(right: Tensor) -> str:
    return RIGHT if right else WRONG


def _shares(shares: Mapping[float, float]) -> str:
    return ', '.join(f'{share:.1f} % at width {width:g}' for width, share in shares.items())


def _table(title: str, shares: Mapping[float, float]) -> str:
    return markdown_table(['width', title], [[f'{width:g}', f'{share:.1f}'] for width, share in shares.items()])


def retrieval_insight(neighbours: Mapping[float, Tensor], images: Images, queries: Sequence[int]) -> Insight:
    """Show the nearest neighbours of images at each width, framed by whether they have the class of the query.

    Args:
        neighbours (Mapping[float, Tensor]): By width, the neighbours (N, k) of each image, the nearest first.
        images (Images): The images.
        queries (Sequence[int]): Those whose neighbours are shown.
    """
    labels, k = images.labels, next(iter(neighbours.values())).size(1)
    same = {w: 100 * (labels[found] == labels[:, None]).double().mean().item() for w, found in neighbours.items()}
    rows: list[list[Picture | None]] = []
    told = []
    for query in queries:
        shown: Picture | None = images.named(query)
        for found in neighbours.values():
            rows.append([shown])
            shown = None  # once for all widths
            for i in found[query].tolist():
                frame = _frame(labels[i] == labels[query])
                rows[-1].append(Picture(images.pixels(i), images.classes[labels[i]], frame))
        places = {f'{w:g}': [images.indices[i] for i in found[query].tolist()] for w, found in neighbours.items()}
        told.append(dict(**images.told(query), neighbours=places))
    title = 'an image and its nearest neighbours; green: of its class, red: of another'
    names = [f'width {width:g}' for _ in queries for width in neighbours]
    return Insight(
        name='retrieval',
        title=f'The {k} nearest neighbours of an image at each width',
        says=f'Of the neighbours of all {len(labels)} images, of the class of their image are {_shares(same)}.',
        table=_table(f'of {k} neighbours of the same class (%)', same),
        figure=draw_pictures(rows, names, title, 0.8),
        data=dict(k=k, same_class={f'{width:g}': share for width, share in same.items()}, queries=told),
    )


def cam_insight(
    maps: Mapping[float, Tensor],
    predicted: Mapping[float, Tensor],
    accuracy: Mapping[float, float],
    images: Images,
    shown: Sequence[int],
) -> Insight:
    """Show where each width sees the evidence for the class that it predicts.

    Args:
        maps (Mapping[float, Tensor]): By width, the activation (M, H, W) of the predicted class of each image shown.
        predicted (Mapping[float, Tensor]): By width, that class, (M,).
        accuracy (Mapping[float, float]): By width, the accuracy of the head in percent.
        images (Images): The images.
        shown (Sequence[int]): The M of them that are shown.
    """
    rows: list[list[Picture | None]] = []
    told = []
    for number, i in enumerate(shown):
        rows.append([images.named(i)])
        found = {width: int(each[number]) for width, each in predicted.items()}
        for width, heat in maps.items():
            title, frame = f'width {width:g}: {images.classes[found[width]]}', _frame(images.labels[i] == found[width])
            rows[-1].append(Picture(images.pixels(i), title, frame, heat[number].numpy()))
        names = {f'{width:g}': images.classes[label] for width, label in found.items()}
        heats = {f'{width:g}': heat[number].tolist() for width, heat in maps.items()}
        told.append(dict(**images.told(i), predicted=names, maps=heats))
    size = ' x '.join(map(str, next(iter(maps.values())).shape[1:]))
    title = 'evidence for the predicted class: most in red'
    return Insight(
        name='cam',
        title='Class activation maps at each width',
        says=f'The heads behind the maps, which have {size} positions, are right for {_shares(accuracy)}.',
        table=_table('accuracy (%)', accuracy),
        figure=draw_pictures(rows, [''] * len(rows), title, 1.5),
        data=dict(accuracy={f'{width:g}': share for width, share in accuracy.items()}, images=told),
    )
