"""Random augmentations of a batch, with the names and options of mmpretrain's transforms of single images.

Each image has draws of its own. They are made on the CPU: they are the same for every device, and the number of images
that an operation changes is known without waiting. Images are floats (N, 3, H, W) in [0, 1] and changed in place.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.registry import TRANSFORMS as REGISTRY
from torch import Generator, Tensor

from us3l_mm.registry import find_class

from . import image_ops

_ATTEMPTS = 10  # at a crop inside the image, as torchvision and mmpretrain
_JITTERS = ('brightness', 'contrast', 'saturation', 'hue')
_, _CONTRAST, _SATURATION, _HUE = range(4)


def augment(images: Tensor, generator: Generator, transforms: Sequence[dict]) -> Tensor:
    """Apply a list of transforms, of the types in ``TRANSFORMS``, which :func:`check_transforms` has checked."""
    for transform in transforms:
        options = {key: value for key, value in transform.items() if key != 'type'}
        images = TRANSFORMS[transform_name(transform['type'])](images, generator, **options)
    return images


@functools.cache
def transform_name(kind: str | type) -> Any:
    """Name in :data:`TRANSFORMS` of a transform, in whatever spelling; what was given if it is none of these."""
    if kind in TRANSFORMS:
        return kind
    found = find_class(kind, 'mmpretrain', REGISTRY)
    names = (name for name in TRANSFORMS if found and find_class(name, 'mmpretrain', REGISTRY) is found)
    return next(names, kind)


def random_resized_crop(
    images: Tensor,
    generator: Generator,
    scale: int | Sequence[int],
    crop_ratio_range: Sequence[float] = (0.08, 1.0),
    aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
    backend: str = 'cv2',
) -> Tensor:
    """Cut out boxes of random area and aspect ratio; resize them bilinearly, with antialiasing for pillow only."""
    size = tuple(scale) if isinstance(scale, Sequence) else (scale, scale)
    boxes = draw_boxes(len(images), images.shape[2:], generator, crop_ratio_range, aspect_ratio_range)
    return image_ops.resized_crop(images, _send(boxes, images), size, antialias=backend == 'pillow')


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


def random_flip(images: Tensor, generator: Generator, prob: float, direction: str = 'horizontal') -> Tensor:
    """Mirror images left to right, or upside down."""
    axes = dict(horizontal=3, vertical=2)
    return _on_some(images, generator, prob, lambda some: some.flip(axes[direction]))


def random_apply(images: Tensor, generator: Generator, transforms: Sequence[dict], prob: float = 0.5) -> Tensor:
    """Apply all transforms of a list, or none."""
    return _on_some(images, generator, prob, lambda some: augment(some, generator, transforms))


def color_jitter(
    images: Tensor,
    generator: Generator,
    brightness: float | Sequence[float] = 0,
    contrast: float | Sequence[float] = 0,
    saturation: float | Sequence[float] = 0,
    hue: float | Sequence[float] = 0,
) -> Tensor:
    """Change brightness, contrast, saturation and hue by random factors in a random order."""
    ranges = [_factors(*option) for option in zip(_JITTERS, (brightness, contrast, saturation, hue))]
    factors, order = draw_jitter(len(images), generator, ranges)
    # Sort images by the step that changes their hue, so that each step works on whole slices.
    by_turn = order.argsort(1)[:, _HUE].argsort()
    images, order, factors = images[_send(by_turn, images)], order[by_turn], factors[by_turn]
    turns = (order == _HUE).sum(0).tolist()
    in_order = factors.gather(1, order)
    rest = 1 - in_order
    weights = _send(torch.stack([in_order, rest * (order == _SATURATION), rest * (order == _CONTRAST)]), images)
    shifts = _send(factors[:, _HUE], images)
    for hue_turn, (part, blends, shift) in enumerate(
        zip(images.split(turns), weights.split(turns, 1), shifts.split(turns))
    ):
        for turn in range(len(_JITTERS)):
            if turn != hue_turn:
                image_ops.blend_(part, *blends[:, :, turn])
            elif tuple(ranges[_HUE]) != (0, 0):
                part.copy_(image_ops.adjust_hue(part, shift))
    return images[_send(by_turn.argsort(), images)]


def draw_jitter(count: int, generator: Generator, ranges: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Draw factors (``count``, 4) of brightness, contrast, saturation and hue, and an order of them for each image."""
    factors = torch.stack([_uniform((count,), limits, generator) for limits in ranges], 1)
    return factors, torch.rand(count, len(ranges), generator=generator).argsort(1)


def random_grayscale(
    images: Tensor,
    generator: Generator,
    prob: float = 0.1,
    keep_channels: bool = True,
    channel_weights: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Turn images grey: by default the mean of the channels, as mmcv; torchvision weights R, G, B as ``LUMA``."""
    weights = tuple(weight / sum(channel_weights) for weight in channel_weights)
    return _on_some(images, generator, prob, lambda some: image_ops.luma(some, weights).expand_as(some))


def gaussian_blur(
    images: Tensor,
    generator: Generator,
    magnitude_range: Sequence[float],
    magnitude_std: str = 'inf',
    prob: float = 0.5,
) -> Tensor:
    """Blur by a random standard deviation of ``magnitude_range`` pixels, uniform (``magnitude_std='inf'``)."""
    radius = math.ceil(4 * magnitude_range[1])  # what lies beyond weighs less than 1e-4

    def blur(some: Tensor) -> Tensor:
        sigma = _send(_uniform((len(some),), magnitude_range, generator), some)
        return image_ops.gaussian_blur(some, sigma, radius)

    return _on_some(images, generator, prob, blur)


def solarize(images: Tensor, generator: Generator, thr: float, prob: float = 0.5) -> Tensor:
    """Invert the values from ``thr`` of 255 on."""
    return _on_some(images, generator, prob, lambda some: image_ops.solarize(some, thr / 255))


TRANSFORMS: dict[str, Callable[..., Tensor]] = dict(
    RandomResizedCrop=random_resized_crop,
    RandomFlip=random_flip,
    RandomApply=random_apply,
    ColorJitter=color_jitter,
    RandomGrayscale=random_grayscale,
    GaussianBlur=gaussian_blur,
    Solarize=solarize,
)


def _on_some(images: Tensor, generator: Generator, prob: float, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change each image with probability ``prob``."""
    index = (torch.rand(len(images), generator=generator) < prob).nonzero().squeeze(1)
    index = _send(index, images)
    images[index] = change(images[index])
    return images


def _uniform(shape: Sequence[int], limits: Sequence[float], generator: Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _send(values: Tensor, images: Tensor) -> Tensor:
    """Send values to the device of the images, without waiting; floats get their type."""
    values = values.to(images.dtype) if values.is_floating_point() else values
    if images.is_cuda:
        values = values.pin_memory()
    return values.to(images.device, non_blocking=True)


def _factors(name: str, value: float | Sequence[float]) -> Sequence[float]:
    """Range of a jitter's factor, around 1 or, for the hue, around 0."""
    centre, low = (0, -0.5) if name == 'hue' else (1, 0)
    return value if isinstance(value, Sequence) else (max(low, centre - value), centre + value)
