"""Random augmentations of a batch, with the names and options of mmpretrain's transforms of single images.

Each image has draws of its own. A function takes the options of a transform and returns its :class:`Step`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.registry import TRANSFORMS as REGISTRY
from torch import Generator, Tensor

from us3l_mm.registry import find_class

from . import image_ops
from .steps import Step, in_turn, on_some, sometimes

_ATTEMPTS = 10  # at a crop inside the image, as torchvision and mmpretrain
_JITTERS = ('brightness', 'contrast', 'saturation', 'hue')
_, _CONTRAST, _SATURATION, _HUE = range(4)
_BEFORE, _AFTER = (0, 1, 2), (1, 2, 3)  # turns of a jitter that can come before and after that of the hue


def augmentation(transforms: Sequence[dict]) -> Step:
    """Join a list of transforms, of the types in ``TRANSFORMS``, which :func:`check_transforms` has checked."""
    steps: list[Step] = []
    for transform in transforms:
        name = transform_name(transform['type'])
        options = {key: value for key, value in transform.items() if key != 'type'}
        if name == 'RandomFlip' and steps and steps[-1].size:
            steps[-1] = flipped_crop(steps[-1], **options)
        else:
            steps.append(TRANSFORMS[name](**options))
    return in_turn(steps)


@functools.cache
def transform_name(kind: str | type) -> Any:
    """Name in :data:`TRANSFORMS` of a transform, in whatever spelling; what was given if it is none of these."""
    if kind in TRANSFORMS:
        return kind
    found = find_class(kind, 'mmpretrain', REGISTRY)
    names = (name for name in TRANSFORMS if found and find_class(name, 'mmpretrain', REGISTRY) is found)
    return next(names, kind)


def random_resized_crop(
    scale: int | Sequence[int],
    crop_ratio_range: Sequence[float] = (0.08, 1.0),
    aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
    backend: str = 'cv2',
) -> Step:
    """Cut out boxes of random area and aspect ratio; resize them bilinearly, with antialiasing for pillow only."""
    height, width = scale if isinstance(scale, Sequence) else (scale, scale)
    return Step(
        columns=4,
        draw=lambda count, size, generator: draw_boxes(count, size, generator, crop_ratio_range, aspect_ratio_range),
        apply=lambda images, boxes: image_ops.resized_crop(images, boxes, (height, width), backend == 'pillow'),
        size=(height, width),
    )


def draw_boxes(
    count: int, size: Sequence[int], generator: Generator, areas: Sequence[float], ratios: Sequence[float]
) -> Tensor:
    """Draw boxes (``count``, 4) of top, left, height and width as mmpretrain's RandomResizedCrop does."""
    height, width = size
    area = _uniform((count, _ATTEMPTS), areas, generator) * height * width
    ratio = _uniform((count, _ATTEMPTS), [math.log(r) for r in ratios], generator).exp()
    shapes = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()], 2)
    fits = ((shapes > 0) & (shapes <= torch.tensor([height, width]))).all(2)
    first = fits.int().argmax(1)
    shape = shapes[torch.arange(count), first]
    central = torch.tensor([min(height, round(width / ratios[0])), min(width, round(height * ratios[1]))]).to(shape)
    some = fits.any(1)[:, None]
    shape = torch.where(some, shape, central)
    free = torch.tensor([height, width]) - shape
    start = (_uniform((count, 2), (0, 1), generator) * (free + 1)).floor()
    return torch.cat([torch.where(some, start, free // 2), shape], 1)


def flipped_crop(crop: Step, prob: float, direction: str = 'horizontal') -> Step:
    """Let a crop also flip: it reads a box of negative width from the right, which costs nothing."""
    start, length = dict(horizontal=(1, 3), vertical=(0, 2))[direction]

    def draw(count: int, size: Sequence[int], generator: Generator) -> Tensor:
        boxes = crop.draw(count, size, generator)
        on = torch.rand(count, generator=generator) < prob
        boxes[:, start] += on * boxes[:, length]
        boxes[:, length] *= 1 - 2 * on.double()
        return boxes

    return replace(crop, draw=draw)


def random_flip(prob: float, direction: str = 'horizontal') -> Step:
    """Mirror images left to right, or upside down."""
    axis = dict(horizontal=3, vertical=2)[direction]
    return sometimes(prob, _fixed(lambda images: images.flip(axis)))


def random_apply(transforms: Sequence[dict], prob: float = 0.5) -> Step:
    """Apply all transforms of a list, or none."""
    return sometimes(prob, augmentation(transforms))


def color_jitter(
    brightness: float | Sequence[float] = 0,
    contrast: float | Sequence[float] = 0,
    saturation: float | Sequence[float] = 0,
    hue: float | Sequence[float] = 0,
) -> Step:
    """Change brightness, contrast, saturation and hue by random factors in a random order.

    Each image has its own order, and turning the hue takes longest. So all images turn it together, after the turns
    that come before it in their order.
    """
    ranges = [_factors(*option) for option in zip(_JITTERS, (brightness, contrast, saturation, hue))]

    def draw(count: int, size: Sequence[int], generator: Generator) -> Tensor:
        factors, order = draw_jitter(count, generator, ranges)
        hue_turn = order.argsort(1)[:, _HUE, None]
        on = torch.cat([torch.tensor(_BEFORE) < hue_turn, torch.tensor(_AFTER) > hue_turn], 1)
        order = order[:, _BEFORE + _AFTER]
        own = factors.gather(1, order)
        turns = torch.stack([on, own, (1 - own) * (order == _SATURATION), (1 - own) * (order == _CONTRAST)], 2)
        return torch.cat([factors[:, _HUE, None], turns.flatten(1)], 1)

    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        shift, *turns = numbers.split([1] + [4] * len(_BEFORE + _AFTER), 1)
        for turn in turns[: len(_BEFORE)]:
            images = on_some(images, turn[:, 0], turn[:, 1:], image_ops.blend)
        if tuple(ranges[_HUE]) != (0, 0):
            images = image_ops.adjust_hue(images, shift[:, 0])
        for turn in turns[len(_BEFORE) :]:
            images = on_some(images, turn[:, 0], turn[:, 1:], image_ops.blend)
        return images

    return Step(1 + 4 * len(_BEFORE + _AFTER), draw, apply)


def draw_jitter(count: int, generator: Generator, ranges: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Draw factors (``count``, 4) of brightness, contrast, saturation and hue, and an order of them for each image."""
    factors = torch.stack([_uniform((count,), limits, generator) for limits in ranges], 1)
    return factors, torch.rand(count, len(ranges), generator=generator).argsort(1)


def random_grayscale(
    prob: float = 0.1, keep_channels: bool = True, channel_weights: Sequence[float] = (1.0, 1.0, 1.0)
) -> Step:
    """Turn images grey: by default the mean of the channels, as mmcv; torchvision weights R, G, B as ``LUMA``."""
    weights = tuple(weight / sum(channel_weights) for weight in channel_weights)
    return sometimes(prob, _fixed(lambda images: image_ops.luma(images, weights).expand_as(images)))


def gaussian_blur(magnitude_range: Sequence[float], magnitude_std: str = 'inf', prob: float = 0.5) -> Step:
    """Blur by a random standard deviation of ``magnitude_range`` pixels, uniform (``magnitude_std='inf'``)."""
    radius = math.ceil(4 * magnitude_range[1])  # what lies beyond weighs less than 1e-4
    blur = Step(
        columns=1,
        draw=lambda count, size, generator: _uniform((count, 1), magnitude_range, generator),
        apply=lambda images, sigma: image_ops.gaussian_blur(images, sigma[:, 0], radius),
    )
    return sometimes(prob, blur)


def solarize(thr: float, prob: float = 0.5) -> Step:
    """Invert the values from ``thr`` of 255 on."""
    return sometimes(prob, _fixed(lambda images: image_ops.solarize(images, thr / 255)))


TRANSFORMS: dict[str, Callable[..., Step]] = dict(
    RandomResizedCrop=random_resized_crop,
    RandomFlip=random_flip,
    RandomApply=random_apply,
    ColorJitter=color_jitter,
    RandomGrayscale=random_grayscale,
    GaussianBlur=gaussian_blur,
    Solarize=solarize,
)


def _fixed(change: Callable[[Tensor], Tensor]) -> Step:
    """A step that draws nothing."""
    return Step(0, lambda count, size, generator: torch.empty(count, 0), lambda images, numbers: change(images))


def _uniform(shape: Sequence[int], limits: Sequence[float], generator: Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _factors(name: str, value: float | Sequence[float]) -> Sequence[float]:
    """Range of a jitter's factor, around 1 or, for the hue, around 0."""
    centre, low = (0, -0.5) if name == 'hue' else (1, 0)
    return value if isinstance(value, Sequence) else (max(low, centre - value), centre + value)
