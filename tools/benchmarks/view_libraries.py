"""Views by other libraries, with the options of mmpretrain's transforms, and how far they are from OpenCV and Pillow.

Images are RGB, (N, 3, H, W); floats in [0, 1] unless they are uint8.
"""

import math
from collections.abc import Callable, Sequence

import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from us3l_mm.models.data_preprocessors import image_ops
from us3l_mm.models.data_preprocessors.random_ops import augmentation, draw_boxes

Views = Callable[[Tensor], Tensor]
Crop = Callable[[Tensor, dict], tuple[Sequence[Sequence[int]], Tensor]]
COLOURS = dict(brightness=ImageEnhance.Brightness, contrast=ImageEnhance.Contrast, saturation=ImageEnhance.Color)
FACTOR = 1.3


def radius(blur: dict) -> int:
    return math.ceil(4 * blur['magnitude_range'][1])


def torchvision_views(view: Sequence[dict]) -> Views:
    """Transforms of torchvision, which draw once for a whole batch."""
    makers: dict[str, Callable[[dict], torch.nn.Module]] = dict(
        RandomResizedCrop=lambda o: v2.RandomResizedCrop(
            o['scale'], o['crop_ratio_range'], antialias=o['backend'] == 'pillow'
        ),
        RandomFlip=lambda o: v2.RandomHorizontalFlip(o['prob']),
        RandomApply=lambda o: v2.RandomApply([make(each) for each in o['transforms']], o['prob']),
        ColorJitter=lambda o: v2.ColorJitter(**{name: value for name, value in o.items() if name != 'type'}),
        RandomGrayscale=lambda o: v2.RandomGrayscale(o['prob']),
        GaussianBlur=lambda o: v2.RandomApply(
            [v2.GaussianBlur(2 * radius(o) + 1, tuple(o['magnitude_range']))], o['prob']
        ),
    )

    def make(options: dict) -> torch.nn.Module:
        return makers[options['type']](options)

    return v2.Compose([make(options) for options in view])


def kornia_views(view: Sequence[dict], cropping_mode: str) -> Views:
    """Transforms of kornia, each image with draws of its own, except for the order in ColorJitter."""
    import kornia.augmentation as k

    def jitter(options: dict, prob: float) -> torch.nn.Module:
        return k.ColorJitter(**{name: value for name, value in options.items() if name != 'type'}, p=prob)

    makers: dict[str, Callable[[dict], torch.nn.Module]] = dict(
        RandomResizedCrop=lambda o: k.RandomResizedCrop(
            (o['scale'],) * 2, o['crop_ratio_range'], align_corners=False, cropping_mode=cropping_mode
        ),
        RandomFlip=lambda o: k.RandomHorizontalFlip(o['prob']),
        RandomApply=lambda o: jitter(o['transforms'][0], o['prob']),
        ColorJitter=lambda o: jitter(o, 1),
        RandomGrayscale=lambda o: k.RandomGrayscale(p=o['prob']),
        GaussianBlur=lambda o: k.RandomGaussianBlur((2 * radius(o) + 1,) * 2, tuple(o['magnitude_range']), p=o['prob']),
    )
    return torch.nn.Sequential(*(makers[options['type']](options) for options in view))


def our_views(view: Sequence[dict]) -> Views:
    step = augmentation(view)
    generator = torch.Generator().manual_seed(0)
    return lambda images: step.apply(images, step.draw(len(images), images.shape[2:], generator).float().to(images))


def pipeline_views(view: Sequence[dict]) -> Views:
    """mmpretrain's transforms, which take BGR."""
    pipeline = Compose(list(view))

    def views(images: Tensor) -> Tensor:
        arrays = (255 * images).round().byte().flip(1).permute(0, 2, 3, 1).cpu().numpy()
        changed = np.stack([pipeline(dict(img=array))['img'] for array in arrays])
        return torch.from_numpy(changed).permute(0, 3, 1, 2).flip(1) / 255

    return views


def our_crop(images: Tensor, crop: dict) -> tuple[Sequence[Sequence[int]], Tensor]:
    boxes = _boxes(images, crop)
    size = (crop['scale'],) * 2
    return boxes.tolist(), image_ops.resized_crop(images, boxes.to(images), size, crop['backend'] == 'pillow')


def torchvision_crop(images: Tensor, crop: dict) -> tuple[Sequence[Sequence[int]], Tensor]:
    boxes, size = _boxes(images, crop).tolist(), [crop['scale']] * 2
    antialias = crop['backend'] == 'pillow'
    crops = [tv.resized_crop(image, *box, size, antialias=antialias) for image, box in zip(images, boxes)]
    return boxes, torch.stack(crops)


def kornia_crop(cropping_mode: str) -> Crop:
    def crop_by(images: Tensor, crop: dict) -> tuple[Sequence[Sequence[int]], Tensor]:
        (module,) = kornia_views([crop], cropping_mode)
        found = module(images)
        corners = module._params['src'].round().long()
        first, last = corners[:, 0].flip(1), corners[:, 2].flip(1)  # of x and y
        return torch.cat([first, last - first + 1], 1).tolist(), found

    return crop_by


def _boxes(images: Tensor, crop: dict) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return draw_boxes(len(images), images.shape[2:], generator, crop['crop_ratio_range'], (3 / 4, 4 / 3)).long()


def crop_error(crop: Crop, images: Tensor, options: dict) -> float:
    """Largest difference of crops from the backend's of mmcv, in levels of 255."""
    boxes, found = crop(images / 255, options)
    errors = []
    for image, (top, left, height, width), other in zip(images.permute(0, 2, 3, 1).cpu().numpy(), boxes, found):
        part = image[top : top + height, left : left + width]
        expected = mmcv.imresize(part, (options['scale'],) * 2, backend=options['backend'])
        errors.append(np.abs(255 * other.permute(1, 2, 0).cpu().numpy() - expected).max())
    return float(max(errors))


def colour_error(views: Callable[[Sequence[dict]], Views], images: Tensor) -> float:
    """Largest difference of brightness, contrast and saturation from Pillow's, in levels of 255."""
    errors = []
    for name, enhance in COLOURS.items():
        found = 255 * views([dict(type='ColorJitter', **{name: (FACTOR, FACTOR)})])(images / 255).cpu()
        for image, other in zip(images.permute(0, 2, 3, 1).cpu().numpy(), found.permute(0, 2, 3, 1).numpy()):
            errors.append(np.abs(np.array(enhance(Image.fromarray(image)).enhance(FACTOR)) - other).max())
    return float(max(errors))
