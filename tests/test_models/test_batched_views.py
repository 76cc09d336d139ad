"""Batched views are distributed as those of mmpretrain's pipeline, and depend on seed, rank and iteration only."""

import copy
import math
from collections import Counter
from itertools import permutations

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose, RandomFlip
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.datasets.transforms import ColorJitter, RandomResizedCrop
from mmpretrain.models import SelfSupDataPreprocessor
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from builders import ROOT, augment
from recorded_graph import record
from us3l_mm.models.data_preprocessors import BatchedViewsPreprocessor, batched_views, image_ops, steps
from us3l_mm.models.data_preprocessors.random_ops import draw_boxes, draw_jitter
from us3l_mm.utils.captured import Captured

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
BASE = ROOT / 'configs/_base_/datasets'
PIXELS = dict(mean=[120.0, 115.0, 110.0], std=[60.0, 58.0, 56.0], to_rgb=True)
VIEW = Config.fromfile(BASE / 'cifar100_us3l.py').view
BLURRED = [
    *VIEW[:2],
    dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=0.5),
    dict(type='Solarize', thr=128, prob=0.3),
]


@pytest.fixture
def photos():
    """Eight pieces of two photographs, uint8 (8, 32, 32, 3)."""
    return np.stack(
        [cv2.resize(p[y : y + 200, 100:400], (32, 32)) for p in load_sample_images().images for y in range(0, 200, 50)]
    )


def as_batch(images):
    return dict(inputs=torch.from_numpy(images).permute(0, 3, 1, 2), data_samples=None)


def distance(first, second, slack=0.0):
    """Largest gap between two empirical distributions, over what chance exceeds once in 1000 times.

    With slack, only what remains after values have been moved so far (Kolmogorov and Smirnov's test, after Levy).
    """
    first, second = np.sort(first), np.sort(second)

    def below(values, limits):
        return np.searchsorted(values, limits, 'right') / len(values)

    gaps = [(below(a, a) - below(b, a + slack)).max() for a, b in ((first, second), (second, first))]
    return max(gaps) / (1.95 * math.sqrt(1 / len(first) + 1 / len(second)))


def test_types_may_be_spelt_as_anywhere(photos):
    images = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
    flip, crop = dict(prob=0.5), dict(scale=16)
    expected, *others = (
        augment(images.clone(), torch.Generator().manual_seed(0), [dict(type=a, **flip), dict(type=b, **crop)])
        for a, b in (
            ('RandomFlip', 'RandomResizedCrop'),
            ('mmcv.transforms.RandomFlip', 'mmpretrain.RandomResizedCrop'),
            (RandomFlip, RandomResizedCrop),
        )
    )
    assert all(torch.equal(other, expected) for other in others)


@pytest.mark.parametrize(
    'size, areas, ratios',
    [((32, 32), (0.2, 1), (3 / 4, 4 / 3)), ((20, 48), (0.5, 1), (3 / 4, 4 / 3)), ((48, 20), (0.5, 1), (1, 1.2))],
)
def test_boxes_are_distributed_as_mmpretrains(size, areas, ratios):
    crop = RandomResizedCrop(32, areas, ratios)
    image = np.zeros((*size, 3), np.uint8)
    expected = np.array([crop.rand_crop_params(image) for _ in range(3000)])
    found = draw_boxes(20000, size, torch.Generator().manual_seed(0), areas, ratios).numpy()
    for column in range(4):
        assert distance(expected[:, column], found[:, column]) < 1
    for statistic in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0] + box[:, 2],
    ):
        assert distance(statistic(expected), statistic(found)) < 1
    assert (
        np.array_equal(found, found.round())
        and (found[:, :2] >= 0).all()
        and (found[:, :2] + found[:, 2:] <= size).all()
    )


def test_jitter_is_distributed_as_mmpretrains():
    ranges = [(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)]
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    expected = np.array([jitter._rand_params()[1:] for _ in range(3000)])
    factors, order = draw_jitter(24000, torch.Generator().manual_seed(0), ranges)
    for column in range(4):
        assert distance(expected[:, column], factors[:, column].numpy()) < 1
    counts = Counter(map(tuple, order.tolist()))
    assert set(counts) == set(permutations(range(4)))
    assert all(abs(count - 1000) < 5 * math.sqrt(1000) for count in counts.values())
    correlation = torch.corrcoef(
        torch.cat([factors[:-1], factors[1:], order[:-1], order[1:]], 1)[:, [*range(8), 8, 12]].T
    )
    assert (correlation - torch.eye(10)).abs().max() < 5 / math.sqrt(24000)  # neither operations nor neighbours


def statistics(views):
    """What a transform may change, of each of (copies, 3, H, W): light, contrast, sharpness, colour, place."""
    inner = views[..., 6:-6, 6:-6]  # blurs differ at the edges
    values = [inner.flatten(1).mean(1), inner.flatten(1).std(1), inner.diff(dim=3).abs().mean((1, 2, 3))]
    values += [inner.std(1).mean((1, 2)), (inner[:, 0] - inner[:, 2]).mean((1, 2))]
    return [*values, (inner[..., :10] - inner[..., 10:]).mean((1, 2, 3))]


WHOLE = [pytest.param(view, id=f'view{number}') for number, view in enumerate([VIEW, BLURRED])]
SINGLE = [pytest.param([item], id=item['type']) for item in [*VIEW, *BLURRED[2:]]]


def in_bgr(item):
    """What a transform of RGB images says otherwise for the BGR images of a pipeline."""
    return dict(channel_weights=item['channel_weights'][::-1]) if 'channel_weights' in item else {}


@pytest.mark.parametrize('view', [*WHOLE, *SINGLE])
def test_views_are_distributed_as_by_mmpretrains_pipeline(photos, view, set_time):
    copies = 700
    pipeline = Compose([{**item, **in_bgr(item)} for item in view])
    expected = np.stack([pipeline(dict(img=photos[5]))['img'] for _ in range(copies)])
    set_time(0, 1, 0, 1)
    preprocessor = BatchedViewsPreprocessor([view], num_views=1, mean=[0.0] * 3, std=[1.0] * 3, to_rgb=True)
    found = preprocessor(as_batch(photos[5:6].repeat(4 * copies, 0)), True)['inputs'][0]
    # Slack of 1 in 255: mmpretrain rounds down after each operation.
    for first, second in zip(statistics(as_batch(expected)['inputs'].flip(1).float()), statistics(found)):
        assert distance(first.numpy(), second.numpy(), slack=1) < 1


@pytest.mark.parametrize('backend, bound', [('cv2', 0.76), ('pillow', 1.01)])
def test_crops_differ_from_the_backends_by_their_rounding(photos, backend, bound):
    """In levels of 255; docs/data.md states the bounds."""
    crop = RandomResizedCrop(32, (0.2, 1.0), backend=backend)
    for number in range(200):
        np.random.seed(number)
        expected = crop.transform(dict(img=photos[number % 8]))['img']
        np.random.seed(number)
        box = torch.tensor([crop.rand_crop_params(photos[number % 8])]).double()
        images = as_batch(photos)['inputs'][number % 8, None].double()
        found = image_ops.resized_crop(images, box, (32, 32), antialias=backend == 'pillow')[0].permute(1, 2, 0)
        assert np.abs(found.numpy() - expected).max() < bound


@pytest.mark.parametrize('sigma, bound', [(0.1, 0.01), (0.3, 2.5), (0.5, 1.3), (1.0, 1.3), (1.5, 1.3), (2.0, 1.3)])
def test_blurs_are_near_pillows(photos, sigma, bound):
    """Mean difference in levels of 255; docs/data.md states the bounds."""
    expected = [np.array(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma))) for photo in photos]
    found = image_ops.gaussian_blur(as_batch(photos)['inputs'].float(), torch.full((8,), sigma), 8)
    assert (found - as_batch(np.stack(expected))['inputs']).abs().mean() < bound


def test_normalised_as_by_mmpretrain(photos, set_time):
    """Without augmentation: what to_rgb, mean and std do."""
    set_time(0, 1, 0, 1)
    plain = [dict(type='RandomFlip', prob=0)]
    batch = as_batch(photos)
    expected = SelfSupDataPreprocessor(**PIXELS)(batch)['inputs']
    found = BatchedViewsPreprocessor([plain], 2, **PIXELS)(batch, True)['inputs']
    for view in found:
        torch.testing.assert_close(view, expected, atol=1e-5, rtol=1e-5)


def test_images_draw_for_themselves(set_time):
    set_time(0, 1, 0, 1)
    same = np.random.RandomState(0).randint(0, 256, (1, 32, 32, 3), np.uint8).repeat(50, 0)
    first, second = BatchedViewsPreprocessor([VIEW], **PIXELS)(as_batch(same), True)['inputs']
    assert len({tuple(view.flatten()[:500].tolist()) for view in (*first, *second)}) == 100


def test_lists_make_their_own_views(photos, set_time):
    """As in BYOL, where views differ in blur and solarisation."""
    set_time(0, 1, 0, 1)
    lists = [[dict(type='Solarize', thr=0, prob=1)], [dict(type='RandomFlip', prob=1)]]
    inverted, *flipped = BatchedViewsPreprocessor(lists, [1, 2], mean=[0.0] * 3, std=[1.0] * 3)(as_batch(photos), True)[
        'inputs'
    ]
    images = as_batch(photos)['inputs'].float()
    torch.testing.assert_close(inverted, 255 - images)
    for view in flipped:
        torch.testing.assert_close(view, images.flip(3))


def test_draws_depend_on_seed_rank_and_iteration_only(photos, set_time, monkeypatch):
    def views(seed=0, rank=0, iteration=5):
        monkeypatch.setattr(batched_views, 'get_rank', lambda: rank)
        set_time(iteration, 9, 0, 1)
        return BatchedViewsPreprocessor([VIEW], seed=seed, **PIXELS)(as_batch(photos), True)['inputs'][0]

    expected = views()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert torch.equal(views(), expected)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (dict(seed=1), dict(rank=1), dict(iteration=6)):
        assert not torch.equal(views(**other), expected)


def test_mixed_precision_and_memory_format_leave_values_alone(photos, set_time):
    set_time(0, 1, 0, 1)
    expected = BatchedViewsPreprocessor([BLURRED], **PIXELS)(as_batch(photos), True)['inputs'][0]
    with torch.autocast('cpu', torch.bfloat16):
        found = BatchedViewsPreprocessor([BLURRED], channels_last=True, **PIXELS)(as_batch(photos), True)['inputs'][0]
    assert found.dtype == torch.float32 and found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, expected)


def test_evaluation_takes_whole_images_of_the_size_of_views(photos):
    preprocessor = BatchedViewsPreprocessor([[dict(type='RandomResizedCrop', scale=16)]], **PIXELS)
    found = preprocessor(as_batch(photos))['inputs']
    assert found.shape == (8, 3, 16, 16)
    assert torch.equal(found, preprocessor(as_batch(photos))['inputs'])
    whole = BatchedViewsPreprocessor([VIEW], **PIXELS)(as_batch(photos))['inputs']
    assert torch.equal(whole, SelfSupDataPreprocessor(**PIXELS)(as_batch(photos))['inputs'])


def test_crops_of_the_pipeline_are_augmented_further(photos, set_time):
    """The first transforms in the pipeline, where images have many sizes, and the others by the batch."""
    set_time(0, 1, 0, 1)
    crops = [as_batch(photos)['inputs'], as_batch(photos[::-1].copy())['inputs']]
    flip = BatchedViewsPreprocessor([[dict(type='RandomFlip', prob=1)]], mean=[0.0] * 3, std=[1.0] * 3)
    for training in (True, False):
        found = flip(dict(inputs=crops, data_samples=None), training)['inputs']
        for view, crop in zip(found, crops):
            torch.testing.assert_close(view, (crop.flip(3) if training else crop).float())


@pytest.mark.parametrize('name, size', [('cifar100', 32), ('imagenet', 224)])
def test_configs_of_data_make_two_views(name, size, set_time, tmp_path):
    """The two parts of a fast config fit each other: what the data set gives and what is made of it."""
    set_time(0, 1, 0, 1)
    cfg = Config.fromfile(BASE / f'{name}_us3l_fast.py')
    steps = cfg.train_dataloader.dataset.get('pipeline')
    Image.fromarray(load_sample_images().images[0]).save(tmp_path / 'a.jpg')
    image = dict(img=np.zeros((size, size, 3), np.uint8), img_path=str(tmp_path / 'a.jpg'))
    inputs = Compose(steps or [dict(type='PackInputs')])(image)['inputs']
    batch = [view[None] for view in inputs] if steps else inputs[None]
    first, second = MODELS.build(cfg.batched_views)(dict(inputs=batch, data_samples=None), True)['inputs']
    assert first.shape == second.shape == (1, 3, size, size)


@pytest.mark.parametrize(
    'transform, message',
    [
        (dict(type='RandomRotate'), r"type in transforms must be one of \('RandomResizedCrop', .*got 'RandomRotate'"),
        (dict(type='RandomFlip', probability=0.5), 'RandomFlip cannot take .*probability'),
        (dict(type='RandomFlip', prob=1.5), r'RandomFlip.prob must be in \[0, 1\], got 1.5'),
        (dict(type='RandomFlip', prob=1, direction='diagonal'), 'direction must be one of'),
        (
            dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.5, 0.2)),
            r'crop_ratio_range must be \(lowest',
        ),
        (dict(type='RandomResizedCrop', scale=32, backend='turbo'), r"backend must be one of \('cv2', 'pillow'\)"),
        (dict(type='ColorJitter', hue=0.7), r'hue must be in \[0, 0.5\], got 0.7'),
        (dict(type='ColorJitter', contrast=(-1, 1)), 'each limit of ColorJitter.contrast must be in'),
        (dict(type='RandomGrayscale', keep_channels=False), 'keep_channels must be True'),
        (dict(type='GaussianBlur', magnitude_range=(0, 2)), 'each limit of GaussianBlur.magnitude_range must be in'),
        (dict(type='GaussianBlur', magnitude_range=(1, 2), magnitude_std=1), 'magnitude_std must be one of'),
        (
            dict(type='RandomApply', transforms=[dict(type='Resize')], prob=0),
            "RandomApply.transforms must be .*'Resize'",
        ),
    ],
)
def test_bad_options_are_refused_when_built(transform, message):
    with pytest.raises(ValueError, match=message):
        BatchedViewsPreprocessor([[transform]])


def test_views_of_two_sizes_and_missing_counts_are_refused():
    lists = [[dict(type='RandomResizedCrop', scale=scale)] for scale in (8, 16)]
    with pytest.raises(ValueError, match='views must have one size'):
        BatchedViewsPreprocessor(lists, [1, 1])
    with pytest.raises(ValueError, match='num_views needs a number for each of 2 lists'):
        BatchedViewsPreprocessor(lists, 2)


def test_one_flat_list_and_no_view_are_refused():
    with pytest.raises(TypeError, match='transforms must be a list of 1 or more items of type list or tuple'):
        BatchedViewsPreprocessor(VIEW, [1] * len(VIEW))
    with pytest.raises(ValueError, match='num_views must be a whole number from 1 to 100, got 0'):
        BatchedViewsPreprocessor([VIEW], 0)


def test_blur_that_is_too_large_for_the_crop_is_refused_when_built():
    crop, blur = dict(type='RandomResizedCrop', scale=16), dict(type='GaussianBlur', magnitude_range=(1, 4))
    with pytest.raises(ValueError, match='blur of radius 16 needs larger images, .*lower magnitude_range'):
        BatchedViewsPreprocessor([[crop, blur]])


def test_images_of_several_sizes_are_refused():
    images = [torch.zeros(3, side, side, dtype=torch.uint8) for side in (8, 9)]
    with pytest.raises(ValueError, match=r'images of a batch must have one size, got \[\(3, 8, 8\), \(3, 9, 9\)\]'):
        BatchedViewsPreprocessor([VIEW])(dict(inputs=images), True)


def test_batches_that_do_not_fit_are_refused(photos):
    preprocessor = BatchedViewsPreprocessor([VIEW])
    images = as_batch(photos)['inputs']
    for inputs in ([images] * 3, images.float(), images[:, :1]):
        with pytest.raises(ValueError, match='uint8 images of 3 channels, or one for each of 2 views.*MultiView'):
            preprocessor(dict(inputs=inputs, data_samples=None), True)
    with pytest.raises(ValueError, match='needs larger images'):
        augment(torch.rand(1, 3, 8, 8), torch.Generator(), [dict(type='GaussianBlur', magnitude_range=(1, 2), prob=1)])
    with pytest.raises(RuntimeError, match='use a Runner'):
        preprocessor(dict(inputs=list(images), data_samples=None), True)


def test_captured_views_equal_those_that_are_not(photos, monkeypatch):
    """The draws of each call reach the graph, and results outlast the next call."""
    monkeypatch.setattr(steps, 'indexed', steps.masked)  # as on a GPU
    preprocessor = BatchedViewsPreprocessor([BLURRED, VIEW], [1, 1], **PIXELS)
    captured = Captured(preprocessor, record)
    images = [as_batch(photos)['inputs'].roll(shift, 0) for shift in range(4)]
    drawn = [preprocessor.draw([image], torch.Generator().manual_seed(seed)) for seed, image in enumerate(images)]
    found = [captured('views', preprocessor.make_views, image, *numbers) for image, numbers in zip(images, drawn)]
    for views, image, numbers in zip(found, images, drawn):
        for view, other in zip(views, preprocessor.make_views(image, *numbers)):
            assert torch.equal(view, other)


@pytest.mark.gpu
@pytest.mark.parametrize('channels_last', [False, True])
def test_gpu_makes_the_same_views_without_waiting(photos, set_time, channels_last):
    """Captured ones equal eager ones, and those of a CPU to rounding."""
    levels = dict(mean=[0.0] * 3, std=[255.0] * 3, to_rgb=True, channels_last=channels_last)
    between = dict(type='Solarize', thr=128.5, prob=0.3)  # no pixel at the threshold
    on_cpu = BatchedViewsPreprocessor([[*BLURRED[:-1], between], VIEW], [1, 1], **levels)
    on_gpu = copy.deepcopy(on_cpu).cuda()
    for iteration in range(4):  # run, captured, replayed, replayed
        set_time(iteration, 9, 0, 1)
        batch = as_batch(np.roll(photos, iteration, 0))
        expected = on_cpu(batch, True)['inputs']
        batch['inputs'] = batch['inputs'].cuda()
        eager = [view.cpu() for view in copy.deepcopy(on_gpu)(batch, True)['inputs']]
        torch.cuda.set_sync_debug_mode('default' if iteration == 1 else 'error')
        try:
            found = on_gpu(batch, True)['inputs']
        finally:
            torch.cuda.set_sync_debug_mode('default')
        for view, same, other in zip(found, eager, expected):
            assert view.stride() == other.stride() and torch.equal(view.cpu(), same)
            torch.testing.assert_close(same, other, atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_gpu_copies_and_moved_ones_capture_for_themselves(photos, set_time):
    """As of an EMA; a graph of the original would go on with its mean."""
    set_time(0, 1, 0, 1)
    batch = dict(inputs=as_batch(photos)['inputs'].cuda(), data_samples=None)
    preprocessor = BatchedViewsPreprocessor([VIEW], **PIXELS).cuda()
    expected = [preprocessor(batch, True)['inputs'][0] for _ in range(3)][-1]
    copied = copy.deepcopy(preprocessor)
    copied.mean.add_(6)
    preprocessor.cpu().mean.add_(6)
    for other in (copied, preprocessor.cuda()):
        for _ in range(3):
            found = other(batch, True)['inputs'][0] + 6 / other.std
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
