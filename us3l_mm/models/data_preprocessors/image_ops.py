"""Operations on a batch of images, each image with parameters of its own.

N images of 3 channels (red, green, blue) and H x W pixels, floats in [0, 1]. Parameters are tensors of N values on the
device of the images. torchvision's operations of the same names take one value for the whole batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as torchvision and Pillow


def resized_crop(images: Tensor, boxes: Tensor, size: Sequence[int], antialias: bool = False) -> Tensor:
    """Cut a box out of each image and resize it bilinearly.

    Args:
        images (Tensor): (N, 3, H, W).
        boxes (Tensor): (N, 4), top, left, height and width in pixels. A negative height mirrors: the box extends
            upwards from ``top``; and so does a negative width.
        size (Sequence[int]): Height and width of the results.
        antialias (bool): Whether shrinking averages over all pixels (as Pillow), or only over the neighbours (as
            OpenCV).

    Returns:
        Tensor: (N, 3, *size).
    """
    top, left, height, width = boxes.unbind(1)
    rows = _bilinear(top, height, images.shape[2], size[0], antialias)
    columns = _bilinear(left, width, images.shape[3], size[1], antialias)
    # Two matrix products are as fast as grid_sample, and grid_sample neither stops at the box nor averages.
    return torch.einsum('noh,nchw,npw->ncop', rows, images, columns).contiguous()


def _bilinear(start: Tensor, length: Tensor, inputs: int, outputs: int, antialias: bool) -> Tensor:
    """Weights (N, outputs, inputs) that resize ``length`` pixels of a line, from ``start`` on, to ``outputs``."""
    start, length = start[:, None, None], length[:, None, None]
    step = length / outputs
    centres = start + (torch.arange(outputs, device=start.device)[:, None] + 0.5) * step
    pixels = torch.arange(inputs, device=start.device)
    reach = step.abs().clamp(min=1) if antialias else 1
    weights = (1 - (pixels + 0.5 - centres).abs() / reach).clamp_(min=0)
    first = start + length.clamp(max=0)
    weights = weights * ((pixels >= first) & (pixels < first + length.abs()))
    return weights / weights.sum(2, keepdim=True)


def luma(images: Tensor, weights: Sequence[float] = LUMA) -> Tensor:
    """Grey values (N, 1, H, W), a weighted sum of the channels."""
    red, green, blue = images.unbind(1)
    grey = (red * weights[0]).add_(green, alpha=weights[1]).add_(blue, alpha=weights[2])
    return grey[:, None]


def blend(images: Tensor, weights: Tensor) -> Tensor:
    """Blend each image with its grey values and with their mean, by weights (N, 3): of itself, grey and mean.

    With a factor f, (f, 0, 0) adjusts the brightness, (f, 1 - f, 0) the saturation and (f, 0, 1 - f) the contrast, as
    torchvision and Pillow do. One form for all three lets each image have its own order.
    """
    own, grey, mean = weights.view(-1, 3, 1, 1, 1).unbind(1)
    base = luma(images)
    base = base.mean((1, 2, 3), keepdim=True).mul(mean) + base.mul_(grey)
    return (images * own).add_(base).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of each image by ``shift`` of a full circle, in HSV colours.

    Source: Smith, "Color gamut transform pairs", SIGGRAPH 1978.
    """
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    safe = chroma + (chroma == 0)  # grey pixels have no hue, and need none
    hue = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(value == red, (green - blue) / safe, hue).add_(6 * shift.view(-1, 1, 1))  # sixths of a circle
    sixths = (hue[:, None] + torch.arange(5, 0, -2, device=hue.device).view(3, 1, 1)).remainder_(6)
    fading = torch.minimum(sixths, 4 - sixths).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * fading


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image by a Gaussian of standard deviation ``sigma`` pixels, cut off at ``radius``; edges are mirrored.

    Raises:
        ValueError: If an image has too few pixels to mirror.
    """
    count, channels, *size = images.shape
    if min(size) <= radius:
        raise ValueError(f'a blur of radius {radius} needs larger images, got {size}; lower magnitude_range')
    if not count:
        return images  # no groups
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, 1).repeat_interleave(channels, 0)
    blurred = F.pad(images, (radius,) * 4, mode='reflect').flatten(0, 1)[None]  # images become groups of one image
    for shape in ((-1, 1, 1, 2 * radius + 1), (-1, 1, 2 * radius + 1, 1)):
        blurred = F.conv2d(blurred, kernels.view(shape), groups=count * channels)
    return blurred.view_as(images)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert the values from ``threshold`` on."""
    return torch.where(images >= threshold, 1 - images, images)
