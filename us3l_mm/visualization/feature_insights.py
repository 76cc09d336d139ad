"""Curves and points of the features of a network at several widths.

Shapes: N images, C channels. Widths stand in the order of the mappings; the first is what others are compared with.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from us3l_mm.utils.tables import MISSING, markdown_table

from .curves import Curve, Panel, plot_panels
from .insight import Insight

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 20  # classes of which each is named in a picture


def cka_insight(blocks: Sequence[str], values: Mapping[float, Sequence[float]]) -> Insight:
    """Show how alike the blocks are at each width and at the first; see :class:`us3l_mm.evaluation.cka.WidthCKA`."""
    first, *others = values
    places = range(len(blocks))
    curves = [Curve(places, values[width], f'width {width:g}') for width in others]
    figure = plot_panels([Panel(curves, 'block', f'linear CKA with width {first:g}')], width=max(5, 0.6 * len(blocks)))
    figure.axes[0].set_xticks(places, blocks, rotation=45, ha='right')
    cells = [
        [block, *(MISSING if math.isnan(values[width][i]) else f'{values[width][i]:.3f}' for width in others)]
        for i, block in enumerate(blocks)
    ]
    says = f'No block varies from image to image at widths {first:g} and {others[-1]:g}: the features collapsed.'
    known = [(value, block) for value, block in zip(values[others[-1]], blocks) if not math.isnan(value)]
    if known:
        (least, where), (most, there) = min(known), max(known)
        says = (
            f'At width {others[-1]:g}, {there} is most like itself at width {first:g} (CKA {most:.3f}) and {where} '
            f'least ({least:.3f}).'
        )
    return Insight(
        name='cka',
        title='Likeness of the blocks between widths (linear CKA)',
        says=says,
        table=markdown_table(['block', *(f'width {width:g}' for width in others)], cells),
        figure=figure,
        data=dict(reference=first, blocks=list(blocks), cka={f'{width:g}': list(values[width]) for width in others}),
    )


def rank_insight(ranks: Mapping[float, float], channels: Mapping[float, int], images: int) -> Insight:
    """Show the effective rank (RankMe) of the features at each width, beside their channels."""
    widths = list(ranks)
    curves = [
        Curve(widths, [ranks[width] for width in widths], 'effective rank', [f'{ranks[w]:.1f}' for w in widths]),
        Curve(widths, [channels[width] for width in widths], 'channels', options=dict(fmt='s--', color='grey')),
    ]
    figure = plot_panels([Panel(curves, 'width', f'dimensions of the features of {images} images')], width=5)
    figure.axes[0].set_ylim(bottom=0)
    shares = {width: 100 * ranks[width] / channels[width] for width in widths}
    wide, narrow = widths[0], widths[-1]
    return Insight(
        name='rank',
        title='Effective rank of the features (RankMe)',
        says=(
            f'Features use {ranks[wide]:.1f} of {channels[wide]} dimensions at width {wide:g} ({shares[wide]:.0f} %) '
            f'and {ranks[narrow]:.1f} of {channels[narrow]} at {narrow:g} ({shares[narrow]:.0f} %).'
        ),
        table=markdown_table(
            ['width', 'channels', 'effective rank', 'share (%)'],
            [[f'{w:g}', channels[w], f'{ranks[w]:.1f}', f'{shares[w]:.1f}'] for w in widths],
        ),
        figure=figure,
        data=dict(images=images, widths=[dict(width=w, channels=channels[w], rankme=ranks[w]) for w in widths]),
    )


def neighbours_insight(
    overlaps: Mapping[float, Tensor], labels: Tensor, classes: Sequence[str], k: int, indices: Sequence[int]
) -> Insight:
    """Show which images keep their neighbours of the widest net.

    Args:
        overlaps (Mapping[float, Tensor]): By width, the share (N,) of the k nearest neighbours that are also the
            image's at the widest width.
        labels (Tensor): Labels (N,).
        classes (Sequence[str]): Names of the labels.
        k (int): Neighbours.
        indices (Sequence[int]): Place of each image in its data set.
    """
    by_class = {
        classes[label]: [100 * kept[labels == label].mean().item() for kept in overlaps.values()]
        for label in labels.unique().tolist()
    }
    mean = {width: 100 * kept.mean().item() for width, kept in overlaps.items()}
    narrow, last = list(overlaps.items())[-1]
    least = [
        dict(image=indices[i], label=classes[labels[i]], kept=round(100 * last[i].item(), 1))
        for i in last.argsort(stable=True).tolist()[:_MOST]
    ]
    rows = [[name, *(f'{value:.1f}' for value in by_class[name])] for name in by_class]
    rows += [['all', *(f'{value:.1f}' for value in mean.values())]]
    worst = min(by_class, key=lambda name: by_class[name][-1])
    return Insight(
        name='neighbours',
        title=f'Neighbours kept from the widest net ({k} nearest by cosine)',
        says=(
            f'At width {narrow:g} an image keeps {mean[narrow]:.0f} % of its {k} neighbours; class {worst} keeps least '
            f'({by_class[worst][-1]:.0f} %). Image {least[0]["image"]}, of class {least[0]["label"]}, keeps '
            f'{least[0]["kept"]:.0f} %.'
        ),
        table=markdown_table(['class', *(f'kept at {width:g} (%)' for width in overlaps)], rows),
        figure=_overlap_figure(overlaps, by_class, k),
        data=dict(k=k, mean={f'{w:g}': v for w, v in mean.items()}, classes=by_class, least=least),
    )


def _overlap_figure(overlaps: Mapping[float, Tensor], by_class: Mapping[str, Sequence[float]], k: int) -> 'Figure':
    """Plot the kept neighbours over the width, and of the classes that keep least."""
    widths, kept = list(overlaps), [100 * each for each in overlaps.values()]
    shown = sorted(by_class, key=lambda name: by_class[name][-1])[:_MOST]
    means = Curve(widths, [each.mean().item() for each in kept], options={'yerr': [each.std().item() for each in kept]})
    each_class = [
        Curve(range(len(shown)), [by_class[name][i] for name in shown], f'width {width:g}', options={'fmt': 'o'})
        for i, width in enumerate(widths)
    ]
    heading = 'by class' if len(shown) == len(by_class) else f'the {_MOST} of {len(by_class)} classes that keep least'
    figure = plot_panels(
        [
            Panel([means], 'width', f'of {k} neighbours kept (%)', 'mean and standard deviation over the images'),
            Panel(each_class, 'class', '', heading),
        ],
        width=5,
    )
    for axes in figure.axes:
        axes.set_ylim(0, 105)
    figure.axes[1].set_xticks(range(len(shown)), shown, rotation=90 if max(map(len, shown)) > 2 else 0)
    return figure


def embedding_insight(
    method: str,
    points: Mapping[float, np.ndarray],
    agreement: Mapping[float, float],
    labels: Tensor,
    classes: Sequence[str],
) -> Insight:
    """Show a map of the features at each width, with a colour for each class.

    Args:
        method (str): How it was made: ``'tsne'`` or ``'umap'``.
        points (Mapping[float, np.ndarray]): Points (N, 2) by width.
        agreement (Mapping[float, float]): By width, the percentage of images whose nearest point is of their class.
        labels (Tensor): Labels (N,).
        classes (Sequence[str]): Names of the labels.
    """
    name = {'tsne': 't-SNE', 'umap': 'UMAP'}[method]
    each = ', '.join(f'{share:.1f} % at width {width:g}' for width, share in agreement.items())
    return Insight(
        name=method,
        title=f'Features of {len(labels)} images by {name}',
        says=f'In the map, the nearest point is of the same class for {each}.',
        table=markdown_table(
            ['width', 'nearest point of the same class (%)'],
            [[f'{w:g}', f'{share:.1f}'] for w, share in agreement.items()],
        ),
        figure=_map_figure(points, agreement, labels, classes),
        data=dict(
            labels=[classes[label] for label in labels],
            agreement={f'{w:g}': share for w, share in agreement.items()},
            points={f'{w:g}': np.round(found.astype(float), 2).tolist() for w, found in points.items()},
        ),
    )


def _map_figure(
    points: Mapping[float, np.ndarray], agreement: Mapping[float, float], labels: Tensor, classes: Sequence[str]
) -> 'Figure':
    """Plot the points of each width, in a colour for each class, whose names stand in the first panel."""
    from matplotlib import colormaps  # here: nothing else needs it

    present = labels.unique().tolist()
    few = len(present) <= 10  # of which the colours are easy to tell apart
    colours = colormaps['tab10'](range(10)) if few else colormaps['gist_rainbow'](np.linspace(0, 1, len(present)))
    panels = []
    for number, (width, found) in enumerate(points.items()):
        named = number == 0 and len(present) <= _MOST
        curves = [
            Curve(
                *found[labels == label].T.tolist(),
                classes[label] if named else None,
                options=dict(fmt='.', markersize=4, color=tuple(colour)),
            )
            for label, colour in zip(present, colours)
        ]
        title = f'width {width:g}: {agreement[width]:.1f} % have a nearest point of their class'
        panels.append(Panel(curves, '', '', title, legend=dict(ncols=2, markerscale=2)))
    figure = plot_panels(panels, width=5)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
    return figure
