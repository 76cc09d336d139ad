"""Grids of images: what a network finds alike, and where it looks, at several widths.

Shapes: N images.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from us3l_mm.utils.tables import markdown_table

from .images import Picture, draw_pictures
from .insight import Insight

RIGHT, WRONG = 'tab:green', 'tab:red'


def retrieval_insight(
    neighbours: Mapping[float, Tensor],
    labels: Tensor,
    classes: Sequence[str],
    queries: Sequence[int],
    indices: Sequence[int],
    image: Callable[[int], np.ndarray],
) -> Insight:
    """Show the nearest neighbours of images at each width, framed by whether they have the class of the query.

    Args:
        neighbours (Mapping[float, Tensor]): By width, the neighbours (N, k) of each image, the nearest first.
        labels (Tensor): Labels (N,).
        classes (Sequence[str]): Names of the labels.
        queries (Sequence[int]): Images to show.
        indices (Sequence[int]): Place of each image in its data set.
        image (Callable[[int], np.ndarray]): Gives the pixels of an image, (height, width, 3), uint8.
    """
    same = {w: 100 * (labels[found] == labels[:, None]).double().mean().item() for w, found in neighbours.items()}
    rows, names = [], []
    for query in queries:
        for width, found in neighbours.items():
            names.append(f'width {width:g}')
            rows.append([Picture(image(query), f'image {indices[query]}: {classes[labels[query]]}')])
            for other in found[query].tolist():
                frame = RIGHT if labels[other] == labels[query] else WRONG
                rows[-1].append(Picture(image(other), classes[labels[other]], frame))
    k = next(iter(neighbours.values())).size(1)
    each = ', '.join(f'{share:.1f} % at width {width:g}' for width, share in same.items())
    return Insight(
        name='retrieval',
        title=f'The {k} nearest neighbours of an image at each width',
        says=f'Over all {len(labels)} images, neighbours of the class of the query (green) are {each}.',
        table=markdown_table(
            ['width', f'of {k} neighbours of the same class (%)'],
            [[f'{w:g}', f'{share:.1f}'] for w, share in same.items()],
        ),
        figure=draw_pictures(rows, names, 'a query, and its nearest neighbours; green: of its class, red: of another'),
        data=dict(
            k=k,
            same_class={f'{w:g}': share for w, share in same.items()},
            queries=[
                dict(
                    image=indices[query],
                    label=classes[labels[query]],
                    neighbours={
                        f'{w:g}': [indices[i] for i in found[query].tolist()] for w, found in neighbours.items()
                    },
                )
                for query in queries
            ],
        ),
    )


def cam_insight(
    maps: Mapping[float, Tensor],
    predicted: Mapping[float, Tensor],
    accuracy: Mapping[float, float],
    labels: Tensor,
    classes: Sequence[str],
    indices: Sequence[int],
    pixels: Sequence[np.ndarray],
) -> Insight:
    """Show where each width sees the evidence for the class that it predicts.

    Args:
        maps (Mapping[float, Tensor]): By width, the activation (N, H, W) of the predicted class of each image shown.
        predicted (Mapping[float, Tensor]): By width, that class, (N,).
        accuracy (Mapping[float, float]): By width, the accuracy of the head in percent.
        labels (Tensor): Labels (N,).
        classes (Sequence[str]): Names of the labels.
        indices (Sequence[int]): Place of each image in its data set.
        pixels (Sequence[np.ndarray]): The images, (height, width, 3), uint8.
    """
    rows = []
    for i, (index, shown) in enumerate(zip(indices, pixels)):
        rows.append([Picture(shown, f'image {index}: {classes[labels[i]]}')])
        for width, heat in maps.items():
            found = int(predicted[width][i])
            frame = RIGHT if found == labels[i] else WRONG
            rows[-1].append(Picture(shown, f'{width:g}: {classes[found]}', frame, heat[i].numpy()))
    each = ', '.join(f'{share:.1f} % at width {width:g}' for width, share in accuracy.items())
    size = ' x '.join(map(str, next(iter(maps.values())).shape[1:]))
    return Insight(
        name='cam',
        title='Class activation maps at each width',
        says=f'The heads behind the maps, which have {size} positions, are right for {each}.',
        table=markdown_table(['width', 'accuracy (%)'], [[f'{w:g}', f'{share:.1f}'] for w, share in accuracy.items()]),
        figure=draw_pictures(
            rows, [''] * len(rows), 'evidence for the predicted class: red much, blue little', side=1.5
        ),
        data=dict(
            accuracy={f'{w:g}': share for w, share in accuracy.items()},
            images=[
                dict(
                    image=index,
                    label=classes[labels[i]],
                    predicted={f'{w:g}': classes[found[i]] for w, found in predicted.items()},
                    maps={f'{w:g}': heat[i].tolist() for w, heat in maps.items()},
                )
                for i, index in enumerate(indices)
            ],
        ),
    )
