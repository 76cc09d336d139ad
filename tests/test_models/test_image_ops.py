"""Operations of a batch equal torchvision's, image by image."""

import pytest
import torch
import torchvision.transforms.v2.functional as tv

from builders import augment
from us3l_mm.models.data_preprocessors import image_ops, random_ops, steps
from us3l_mm.models.data_preprocessors.random_ops import augmentation, draw_boxes, draw_jitter

N, H, W = 6, 24, 20


@pytest.fixture
def images():
    images = torch.rand(N, 3, H, W)
    images[0] = images[0, :1]  # a grey image has no hue
    images[1, :, :4] = 0
    images[1, :, 4:8] = 1
    return images


def each(function, images, *parameters):
    return torch.stack(
        [function(image, *(value.item() for value in rest)) for image, *rest in zip(images, *parameters)]
    )


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('size', [(16, 16), (40, 9)])
def test_resized_crop_equals_torchvision(images, antialias, size):
    boxes = torch.tensor([[0, 0, H, W], [3, 5, 7, 11], [23, 19, 1, 1], [0, 0, 5, 20], [10, 2, 14, 3], [1, 1, 16, 16]])
    expected = torch.stack(
        [
            tv.resized_crop(image, *box.tolist(), list(size), tv.InterpolationMode.BILINEAR, antialias=antialias)
            for image, box in zip(images, boxes)
        ]
    )
    torch.testing.assert_close(image_ops.resized_crop(images, boxes.float(), size, antialias), expected)


@pytest.mark.parametrize(
    'adjust, weights',
    [
        (tv.adjust_brightness, lambda f, zero: (f, zero, zero)),
        (tv.adjust_saturation, lambda f, zero: (f, 1 - f, zero)),
        (tv.adjust_contrast, lambda f, zero: (f, zero, 1 - f)),
    ],
)
def test_blend_equals_torchvision(images, adjust, weights):
    factors = torch.tensor([0, 0.3, 1, 1.2, 1.7, 3])
    expected = each(adjust, images, factors)
    torch.testing.assert_close(image_ops.blend(images, torch.stack(weights(factors, torch.zeros(N)), 1)), expected)


def test_hue_equals_torchvision(images):
    shifts = torch.tensor([0.3, -0.5, 0.5, 0, -0.1, 0.07])
    torch.testing.assert_close(
        image_ops.adjust_hue(images, shifts), each(tv.adjust_hue, images, shifts), atol=1e-5, rtol=0
    )


def test_luma_equals_torchvision(images):
    torch.testing.assert_close(image_ops.luma(images), tv.rgb_to_grayscale(images))


def test_blur_equals_torchvision(images):
    sigma = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 0.9])
    expected = each(lambda image, s: tv.gaussian_blur(image, [17, 17], [s, s]), images, sigma)
    torch.testing.assert_close(image_ops.gaussian_blur(images, sigma, 8), expected)


def test_solarize_equals_torchvision(images):
    torch.testing.assert_close(image_ops.solarize(images, 0.5), tv.solarize(images, 0.5))


def test_jitter_equals_torchvision_image_by_image():
    """Each image by its own factors in its own order."""
    images = torch.rand(40, 3, 8, 8)
    ranges = dict(brightness=(0.6, 1.4), contrast=(0.5, 1.5), saturation=(0.2, 1.8), hue=(-0.1, 0.1))
    factors, order = draw_jitter(40, torch.Generator().manual_seed(3), list(ranges.values()))
    expected = images.clone()
    for i in range(40):
        for turn in order[i].tolist():
            adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[turn]
            expected[i] = adjust(expected[i], factors[i, turn].item())
    found = augment(images, torch.Generator().manual_seed(3), [dict(type='ColorJitter', **ranges)])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize('direction, flip', [('horizontal', tv.horizontal_flip), ('vertical', tv.vertical_flip)])
def test_flip_equals_torchvision(images, direction, flip):
    expected = flip(images)
    transforms = [dict(type='RandomFlip', prob=1, direction=direction)]
    assert torch.equal(augment(images, torch.Generator(), transforms), expected)


def test_probability_zero_changes_nothing(images):
    names = dict(RandomFlip={}, RandomGrayscale={}, Solarize=dict(thr=0), GaussianBlur=dict(magnitude_range=(1, 2)))
    transforms = [dict(type=name, prob=0, **options) for name, options in names.items()]
    transforms += [dict(type='RandomApply', prob=0, transforms=[dict(type='ColorJitter', brightness=0.5)])]
    transforms += [dict(type='ColorJitter')]
    torch.testing.assert_close(augment(images.clone(), torch.Generator(), transforms), images)


VIEW = [
    dict(type='RandomResizedCrop', scale=12, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.3, direction='vertical'),
    dict(type='RandomApply', prob=0.8, transforms=[dict(type='ColorJitter', brightness=0.4, saturation=0.4, hue=0.1)]),
    dict(type='RandomGrayscale', prob=0.2),
    dict(type='GaussianBlur', prob=0.5, magnitude_range=(0.1, 2.0)),
    dict(type='Solarize', prob=0.4, thr=90),
]


def loop(images, generator):
    """VIEW, image by image: who is changed is drawn for all, and then by what for those who are."""

    def some(count, prob):
        return (torch.rand(count, generator=generator) < prob).nonzero()[:, 0].tolist()

    count = len(images)
    boxes = draw_boxes(count, images.shape[2:], generator, (0.2, 1.0), (3 / 4, 4 / 3)).int().tolist()
    images = [tv.resized_crop(image, *box, [12, 12], antialias=False) for image, box in zip(images, boxes)]
    for flip, prob in ((tv.horizontal_flip, 0.5), (tv.vertical_flip, 0.3)):
        for i in some(count, prob):
            images[i] = flip(images[i])
    jittered = some(count, 0.8)
    ranges = [(0.6, 1.4), (1, 1), (0.6, 1.4), (-0.1, 0.1)]
    for i, factors, order in zip(jittered, *draw_jitter(len(jittered), generator, ranges)):
        for turn in order.tolist():
            adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[turn]
            images[i] = adjust(images[i], factors[turn].item())
    for i in some(count, 0.2):
        images[i] = images[i].mean(0).expand(3, -1, -1)
    blurred = some(count, 0.5)
    for i, draw in zip(blurred, torch.rand(len(blurred), dtype=torch.float64, generator=generator)):
        images[i] = tv.gaussian_blur(images[i], [17, 17], [0.1 + 1.9 * draw.item()] * 2)
    for i in some(count, 0.4):
        images[i] = tv.solarize(images[i], 90 / 255)
    return torch.stack(images)


@pytest.mark.parametrize('on_some', [steps.indexed, steps.masked])
def test_views_equal_a_loop_over_images(on_some, monkeypatch):
    """On a CPU, which changes some images, and as on a GPU, which changes all and chooses."""
    monkeypatch.setattr(steps, 'on_some', on_some)
    monkeypatch.setattr(random_ops, 'on_some', on_some)
    images = torch.rand(60, 3, H, W)
    expected = loop(images, torch.Generator().manual_seed(5))
    found = augment(images, torch.Generator().manual_seed(5), VIEW)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_graph_can_capture_the_operations():
    """Tensors without memory have shapes, and no value that could be read."""
    step = augmentation(VIEW)
    numbers = step.draw(N, (H, W), torch.Generator())
    assert numbers.shape == (N, step.columns)
    assert step.apply(torch.empty(N, 3, H, W, device='meta'), numbers.to('meta', torch.float32)).shape == (N, 3, 12, 12)
