"""Crops of a file equal those of mmpretrain's own steps, whatever the file, but for the resampling."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image

from builders import load_script
from us3l_mm.config import read_config
from us3l_mm.config.own_images import set_image_size
from us3l_mm.datasets import BadImageError, LoadImageFromFile, LoadResizedCrops, find_loaders, load_resized_crops

SIZE = 420, 560  # height, width


def smooth_image(height=SIZE[0], width=SIZE[1]):
    """Waves of other lengths in each channel, without symmetry."""
    y, x = np.mgrid[:height, :width] / 560
    waves = [np.sin(9 * x + 4 * y), np.cos(11 * y - 3 * x), np.sin(7 * x * y + 5 * y)]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def save(path, image=None, kind='JPEG', **options):
    (Image.fromarray(smooth_image()) if image is None else image).save(path, kind, **options)
    return str(path)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def crops_of_mmpretrain(path, scale, count, seed=0, **options):
    """What the separate steps give: the image decoded in full, its boxes resized by Pillow."""
    np.random.seed(seed)
    crop = RandomResizedCrop(scale, backend='pillow', **options)
    return [crop(LoadImageFromFile()(dict(img_path=path)))['img'] for _ in range(count)]


def our_results(path, scale, seed=0, **options):
    np.random.seed(seed)
    return LoadResizedCrops(scale, **options)(dict(img_path=path))


@pytest.fixture
def factors(monkeypatch):
    """By how much files were reduced."""
    seen = []
    decode = load_resized_crops.decode_reduced
    monkeypatch.setattr(
        load_resized_crops, 'decode_reduced', lambda data, factor: seen.append(factor) or decode(data, factor)
    )
    return seen


def assert_the_same_crops(ours, theirs):
    """They differ by a level on average, and by what half a pixel's shift makes: the edge of a box is rounded."""
    assert [image.shape for image in ours] == [image.shape for image in theirs]
    for image, other in zip(ours, np.int64(theirs)):
        shift = sum(np.abs(np.diff(other, axis=axis)).mean() / 2 for axis in (0, 1))
        assert np.abs(image - other).mean() < 1 + shift


KINDS = {
    'colour': (lambda image: image, dict(kind='JPEG')),
    'grey': (lambda image: image.convert('L'), dict(kind='JPEG')),
    'CMYK': (lambda image: image.convert('CMYK'), dict(kind='JPEG')),
    'progressive': (lambda image: image, dict(kind='JPEG', progressive=True)),
    'PNG': (lambda image: image, dict(kind='PNG')),
    'alpha': (lambda image: image.convert('RGBA'), dict(kind='PNG')),
    '16 bits': (lambda image: Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) << 8), dict(kind='PNG')),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('reduce', [True, False])
def test_equal_to_a_level_where_nothing_is_reduced(tmp_path, factors, kind, reduce):
    change, options = KINDS[kind]
    path = save(tmp_path / 'a', change(Image.fromarray(smooth_image(60, 80))), **options)
    for size in (48, (20, 48)):  # no box is twice as wide
        ours = our_results(path, size, num_views=3, reduce=reduce)
        theirs = crops_of_mmpretrain(path, (size if isinstance(size, tuple) else (size, size)), 3)
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(ours['img'], theirs)) <= 1
        assert ours['ori_shape'] == (60, 80) and ours['img_shape'] == theirs[0].shape[:2]
    assert not factors


@pytest.mark.parametrize('scale, factor', [(150, 2), (100, 4), (50, 8), (20, 8)])
def test_reduced_to_what_the_crops_need(tmp_path, factors, scale, factor):
    path, areas = save(tmp_path / 'a.jpg', quality=95), dict(crop_ratio_range=(0.9, 1.0))
    ours = our_results(path, scale, num_views=2, **areas)['img']
    assert factors == [factor]
    assert_the_same_crops(ours, crops_of_mmpretrain(path, scale, 2, **areas))


@pytest.mark.parametrize('scale, expected', [(100, [2]), (104, [2]), (106, []), (50, [4])])
def test_one_decode_as_fine_as_the_smallest_box_needs(tmp_path, factors, scale, expected):
    boxes = iter([(0, 0, 420, 420), (10, 20, 210, 300)])

    class Fixed(LoadResizedCrops):
        def rand_crop_params(self, image):
            return next(boxes)

    Fixed(scale, num_views=2)(dict(img_path=save(tmp_path / 'a.jpg')))
    assert factors == expected


@pytest.mark.parametrize('value', range(1, 9))
def test_turned_upright_whether_reduced_or_not(tmp_path, factors, value):
    path = save(tmp_path / 'a.jpg', exif=orientation(value), quality=95)
    areas = dict(crop_ratio_range=(0.5, 1.0))
    results = our_results(path, 64, num_views=2, **areas)
    assert results['ori_shape'] == (SIZE if value < 5 else SIZE[::-1]) and factors == [4]
    assert_the_same_crops(results['img'], crops_of_mmpretrain(path, 64, 2, **areas))


def test_exif_data_that_decoders_read_in_two_ways(tmp_path, factors):
    """OpenCV takes an orientation stored as 32 bits, big-endian, for none; the boxes must fit what it decodes."""
    entry = b'\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06'
    exif = b'Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01' + entry + bytes(4)
    path = save(tmp_path / 'a.jpg', exif=exif)
    stock = LoadImageFromFile()(dict(img_path=path))['ori_shape']
    assert Image.open(path).getexif()[0x0112] == 6 and stock == SIZE
    assert our_results(path, 64, num_views=2)['ori_shape'] == stock and factors  # reduced first, then in full
    assert our_results(path, 400)['ori_shape'] == stock


@pytest.mark.parametrize('size', [(1, 1), (3, 50), (17, 16)])
def test_image_smaller_than_the_crop(tmp_path, size):
    path = save(tmp_path / 'a.jpg', Image.fromarray(smooth_image(*size)))
    ours, theirs = our_results(path, 32)['img'], crops_of_mmpretrain(path, 32, 1)[0]
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize('damage', [lambda data: data[:-100], lambda data: b'', lambda data: b'text', None])
def test_bad_files_are_told_as_by_the_ordinary_loader(tmp_path, damage):
    path = tmp_path / 'a.jpg'
    save(path)
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    told = []
    for step in (LoadImageFromFile(), LoadResizedCrops(64)):
        with pytest.raises(BadImageError) as error:
            step(dict(img_path=str(path)))
        told.append(str(error.value))
    assert told[0] == told[1] and str(path) in told[0]


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # Pillow's remarks on damaged files
def test_damaged_and_unusual_files_are_told_or_loaded_as_by_the_ordinary_loader(tmp_path, factors):
    """Those of tools/fault/bad_images.py, which says what is right for the ordinary loader."""

    def outcome(step):
        try:
            return step(dict(img_path=path))['ori_shape']
        except BadImageError as error:
            return str(error)

    for number, case in enumerate(load_script('bad_images').all_cases(count=2, seed=0)):
        path = str(tmp_path / f'{number}.jpg')
        case.data(path) if callable(case.data) else Path(path).write_bytes(case.data)
        expected = outcome(LoadImageFromFile())
        assert outcome(LoadResizedCrops(4, (0.5, 1.0))) == expected, f'{case.kind}: {case.name}'
    assert len(factors) > 20 < number


def test_bad_files_can_be_skipped_and_are_found_by_the_hook(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'')
    step = LoadResizedCrops(64, on_bad_image='skip')
    assert step(dict(img_path=str(tmp_path / 'a.jpg'))) is None
    assert list(step.bad_images()) == [str(tmp_path / 'a.jpg')] and list(find_loaders([step])) == []
    holder = type('Data', (), dict(pipeline=type('Pipeline', (), dict(transforms=[step]))))
    assert list(find_loaders(holder)) == [step]


def test_later_steps_take_the_crops(tmp_path):
    """Of mmpretrain, in a list and alone."""
    path = save(tmp_path / 'a.jpg')
    steps = [
        dict(type='RandomFlip', prob=1.0),
        dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=1.0),
    ]
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        many = registry.build(dict(type='ApplyToList', transforms=steps, scatter_key='img', collate_keys=[]))
        flip, pack = registry.build(steps[0]), registry.build(dict(type='PackInputs'))
    views = pack(many(our_results(path, 64, num_views=2)))['inputs']
    assert [tuple(view.shape) for view in views] == [(3, 64, 64)] * 2
    plain = our_results(path, 64)
    crop = plain['img'].copy()
    assert np.array_equal(pack(flip(plain))['inputs'].numpy(), crop[:, ::-1].transpose(2, 0, 1))


def test_image_size_is_set_as_in_random_resized_crop():
    cfg = read_config('configs/us3l/r50_8xb256-fast.py')
    set_image_size(cfg, 112)
    step = cfg.train_dataloader.dataset.pipeline[0]
    assert step.type.endswith('LoadResizedCrops') and step.scale == 112


@pytest.mark.parametrize(
    'option, value, error',
    [
        ('scale', 0, ValueError),
        ('scale', 1.5, TypeError),
        ('crop_ratio_range', (0.5, 0.2), ValueError),
        ('aspect_ratio_range', (0, 1), ValueError),
        ('num_views', 0, ValueError),
        ('reduce', 'False', TypeError),
    ],
)
def test_option_without_such_a_value(option, value, error):
    with pytest.raises(error, match=f'{option} must be.*got'):
        LoadResizedCrops(**{'scale': 64, option: value})
