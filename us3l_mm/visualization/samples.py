"""Draw samples of data sets: the views of a pretraining, images with their classes, boxes."""

import copy
import os.path as osp
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmengine.runner import Runner, set_random_seed
from mmpretrain.models import BaseSelfSupervisor

from us3l_mm.config import find_class
from us3l_mm.datasets import BadImageError, read_image

from .images import axes_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_MOST = 12  # images on a page
_SEED = 0
_LONGEST = 36  # characters of a title


def draw_samples(cfg: Config, loader: str, dataset: Any) -> 'Figure | None':
    """Draw a page of samples, chosen by a fixed seed.

    For the training of a self-supervised model these are the augmented views as the model gets them, with the
    normalisation undone. Otherwise they are images as they are stored, with their classes or boxes.

    Args:
        cfg (Config): Config of the training.
        loader (str): Its data loader, such as ``'train_dataloader'``.
        dataset (Any): The data set of that loader.

    Returns:
        Figure | None: The page, or None if the data set has no entries to draw.

    Raises:
        BadImageError: If a view is drawn of an image that cannot be read.
    """
    kind = find_class(cfg.model.get('type'), cfg.get('default_scope'))
    if loader == 'train_dataloader' and issubclass(kind or object, BaseSelfSupervisor):
        return _draw_views(_views(cfg, cfg[loader], dataset))
    if not hasattr(dataset, 'get_data_info'):
        return None
    order = random.Random(_SEED).sample(range(len(dataset)), len(dataset))
    drawn: list[tuple[np.ndarray, dict]] = []
    for index in order[: 10 * _MOST]:  # bad images among them are left out
        info = dataset.get_data_info(index)
        try:
            drawn.append((_pixels(info), info))
        except BadImageError:
            continue
        if len(drawn) == _MOST:
            break
    return _draw_annotated(drawn, dataset.metainfo.get('classes')) if drawn else None


def _views(cfg: Config, loader: dict, dataset: Any) -> list[np.ndarray]:
    """Make one batch as a training does.

    Returns:
        list[np.ndarray]: For each view (images, height, width, 3), uint8.
    """
    loader = copy.deepcopy({key: value for key, value in loader.items() if key not in ('dataset', 'batch_sampler')})
    loader.update(dataset=dataset, num_workers=0, persistent_workers=False, drop_last=False, batch_size=_MOST // 2)
    loader.update(sampler=dict(type='DefaultSampler', shuffle=True))
    loader.pop('prefetch_factor', None)
    set_random_seed(_SEED)
    batch = next(iter(Runner.build_dataloader(loader, seed=_SEED)))
    preprocessor = MODELS.build({'type': 'SelfSupDataPreprocessor', **cfg.model.get('data_preprocessor', {})})
    MessageHub.get_current_instance().update_info('iter', 0)  # by which views of batches are drawn
    inputs = preprocessor(batch, True)['inputs']
    found = []
    for view in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        pixels = view * getattr(preprocessor, 'std', 1) + getattr(preprocessor, 'mean', 0)  # (N, 3, H, W)
        found.append(pixels.round().clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return found


def _draw_views(views: Sequence[np.ndarray]) -> 'Figure':
    """Draw a row for each view and a column for each image."""
    figure, grid = axes_grid(len(views), len(views[0]), 1.6, 'views as the model gets them, normalisation undone')
    for number, (row, view) in enumerate(zip(grid, views), 1):
        row[0].set_ylabel(f'view {number}', fontsize='small')
        for axes, pixels in zip(row, view):
            axes.imshow(pixels, interpolation='nearest')
    return figure


def _draw_annotated(drawn: Sequence[tuple[np.ndarray, dict]], classes: Sequence[str] | None) -> 'Figure':
    """Draw images (height, width, 3) with what their entries say of them."""
    rows = -(-len(drawn) // _COLUMNS)
    figure, grid = axes_grid(rows, _COLUMNS, 2.6, 'images as stored')
    for axes, (pixels, info) in zip(grid.flat, drawn):
        axes.imshow(pixels)
        title = osp.basename(info.get('img_path', ''))
        if 'gt_label' in info:
            names = ', '.join(_class_name(label, classes) for label in np.atleast_1d(info['gt_label']))
            title = f'{names}: {title}' if title else names
        elif 'instances' in info:
            _draw_boxes(axes, info['instances'], classes, len(pixels))
            title += '' if info['instances'] else ' (no box)'
        axes.set_title(title if len(title) <= _LONGEST else f'{title[:_LONGEST]}...', fontsize='small')
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    return figure


def _draw_boxes(axes: 'Axes', instances: Sequence[dict], classes: Sequence[str] | None, height: int) -> None:
    """Draw the boxes of an image of so many pixels, in one colour for each class."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    for item in instances:
        x1, y1, x2, y2 = item['bbox']
        colour = colormaps['tab10'](item['bbox_label'] % 10)
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5))
        axes.text(
            x1,
            y1,
            _class_name(item['bbox_label'], classes),
            fontsize=6,
            color='white',
            verticalalignment='top' if y1 < height / 12 else 'bottom',  # there is no room above
            clip_on=True,
            bbox=dict(facecolor=colour, edgecolor='none', pad=0.8),
        )


def _class_name(label: int, classes: Sequence[str] | None) -> str:
    return str(classes[label]) if classes is not None and 0 <= label < len(classes) else f'label {label}'


def _pixels(info: dict) -> np.ndarray:
    """Return the image of an entry, RGB: from its file, or from the archive in memory."""
    return np.asarray(info['img']) if 'img' in info else read_image(info['img_path'])[..., ::-1]
