"""Images of all kinds load as one sees them; files that cannot be used are named. Many more: bad_images.py."""

import io
import os
import pickle

import mmcv
import numpy as np
import pytest
from mmengine import fileio
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from PIL import Image

from us3l_mm.config import read_config
from us3l_mm.datasets import IMAGE_EXTENSIONS, BadImageError, LoadImageFromFile, read_image

OURS = dict(type='LoadImageFromFile', _scope_='us3l_mm')  # as in our configs
random = np.random.RandomState(0)
# Smooth, so that JPEG keeps it; red, green and blue differ, and so do all corners.
PHOTO = np.stack(np.meshgrid(np.linspace(0, 250, 24), np.linspace(0, 120, 16)), -1)
PHOTO = np.concatenate([PHOTO, np.full((16, 24, 1), 200)], -1).astype(np.uint8)


def encode(image, kind='PNG', **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def save(path, data):
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def jpeg():
    return encode(PHOTO, 'JPEG', quality=95)


class TestErrors:
    @pytest.mark.parametrize(
        'make, reason',
        [
            (lambda path: save(path, b''), 'the file is empty'),
            (lambda path: save(path, b'<!DOCTYPE html><html>'), "no image.*starts with b'<!DOCTYPE ht'"),
            (lambda path: save(path, encode(PHOTO)[:-200]), None),
            (lambda path: save(path, encode(np.float32(PHOTO[..., 0]), 'TIFF')), '32-bit values'),
            (lambda path: None, 'No such file'),
            (lambda path: path.mkdir(), 'a folder'),
            (lambda path: os.mkfifo(path), 'a pipe, socket or device'),
            (lambda path: path.symlink_to('nowhere'), 'No such file'),
        ],
    )
    def test_names_the_file_and_the_reason(self, tmp_path, make, reason):
        path = tmp_path / 'a.jpg'
        make(path)
        with pytest.raises(BadImageError, match=f'cannot load the image {path}: {reason or "."}') as error:
            LoadImageFromFile()(dict(img_path=str(path)))
        assert error.value.__cause__ is not None

    @pytest.mark.parametrize('options', [{}, dict(progressive=True)])
    def test_jpeg_that_is_cut_off_or_half_zeros(self, tmp_path, options):
        """A thumbnail's own end mark does not count as that of the picture."""
        data = encode(PHOTO, 'JPEG', **options)
        thumbnail = b'\xff\xe1' + (len(data) + 2).to_bytes(2, 'big') + data
        data = data[:2] + thumbnail + data[2:]
        read_image(save(tmp_path / 'good.jpg', data))
        for bad in (data[:-2], data[:-100], data[:-100].ljust(len(data), b'\0')):
            with pytest.raises(BadImageError, match='bad.jpg: a JPEG without its end mark'):
                read_image(save(tmp_path / 'bad.jpg', bad))

    def test_png_with_a_wrong_checksum(self, tmp_path):
        data = encode(PHOTO)
        with pytest.raises(BadImageError, match='bad.png: .*checksum'):
            read_image(save(tmp_path / 'bad.png', data[:60] + bytes([data[60] ^ 1]) + data[61:]))

    @pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
    def test_image_too_large_to_be_meant(self, tmp_path, kind, monkeypatch):
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 16 * 24 // 3)
        with pytest.raises(BadImageError, match='bad.jpg: .*decompression bomb'):
            read_image(save(tmp_path / 'bad.jpg', encode(PHOTO, kind)))

    def test_name_that_is_no_text(self, tmp_path):
        with pytest.raises(BadImageError, match=r'a\\udcff.jpg'):
            read_image(str(tmp_path / os.fsdecode(b'a\xff.jpg')))

    @pytest.mark.parametrize(
        'option, value',
        [
            ('on_bad_image', 'ignore'),
            ('max_bad_images', -1),
            ('max_bad_images', True),
            ('max_bad_images', 1.5),
            ('color_type', 'colour'),
            ('imdecode_backend', 'opencv'),
        ],
    )
    def test_option_without_such_a_value(self, option, value):
        with pytest.raises((TypeError, ValueError), match=f'{option} must be.*got {value!r}'):
            LoadImageFromFile(**{option: value})


class TestPixels:
    def test_ordinary_jpeg_is_what_mmcv_makes_of_it(self, tmp_path, jpeg):
        path = save(tmp_path / 'a.jpg', jpeg)
        results, stock = (
            step(dict(img_path=path)) for step in (LoadImageFromFile(), mmcv.transforms.LoadImageFromFile())
        )
        assert np.array_equal(results.pop('img'), stock.pop('img'))
        assert results == stock

    @pytest.mark.parametrize(
        'orientation, turn',
        [
            (1, lambda x: x),
            (2, lambda x: x[:, ::-1]),
            (3, lambda x: x[::-1, ::-1]),
            (4, lambda x: x[::-1]),
            (5, lambda x: x.swapaxes(0, 1)),
            (6, lambda x: x[::-1].swapaxes(0, 1)),
            (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
            (8, lambda x: x[:, ::-1].swapaxes(0, 1)),
        ],
    )
    def test_orientation(self, tmp_path, orientation, turn):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ('JPEG', 'PNG', 'WEBP', 'TIFF'):
            options = dict(lossless=True) if kind == 'WEBP' else {}
            path = save(tmp_path / f'a.{kind}', encode(PHOTO, kind, exif=exif, **options))
            image = read_image(path)[..., ::-1].astype(int)
            assert np.abs(image - turn(PHOTO)).max() <= (12 if kind == 'JPEG' else 0)
            if kind != 'TIFF':  # Pillow turns these while it reads them
                assert read_image(path, 'color_ignore_orientation').shape == PHOTO.shape

    def test_16_bits_become_8(self, tmp_path):
        deep = random.randint(0, 2**16, (16, 24)).astype(np.uint16)
        for kind in ('PNG', 'TIFF'):
            path = save(tmp_path / 'a.png', encode(deep, kind))
            assert np.array_equal(read_image(path), np.repeat(deep[..., None] // 256, 3, -1))
            assert np.array_equal(read_image(path, 'grayscale'), deep // 256)
            assert np.array_equal(read_image(path, 'unchanged'), deep)

    def test_transparent_becomes_white(self, tmp_path):
        alpha = np.tile(np.linspace(0, 255, 24), (16, 1)).astype(np.uint8)
        path = save(tmp_path / 'a.png', encode(np.dstack([PHOTO, alpha])))
        expected = PHOTO * (alpha[..., None] / 255) + 255 - alpha[..., None]
        assert np.abs(read_image(path)[..., ::-1] - expected).max() <= 1
        assert np.array_equal(read_image(path, 'unchanged'), np.dstack([PHOTO[..., ::-1], alpha]))

    @pytest.mark.parametrize('backend', ['cv2', 'pillow', None])
    def test_backends_agree(self, tmp_path, jpeg, backend):
        for name, data in (('a.jpg', jpeg), ('a.png', encode(PHOTO))):
            image = read_image(save(tmp_path / name, data), backend=backend)
            assert np.abs(image.astype(int) - read_image(str(tmp_path / name))).max() <= 2

    def test_grey(self, tmp_path, jpeg):
        level = PHOTO @ [0.299, 0.587, 0.114]
        for name, data in (('a.jpg', jpeg), ('a.png', encode(PHOTO))):
            image = LoadImageFromFile(color_type='grayscale', to_float32=True)(
                dict(img_path=save(tmp_path / name, data))
            )
            assert image['img'].dtype == np.float32 and image['img_shape'] == (16, 24)
            assert np.abs(image['img'] - level).max() <= 3

    def test_files_of_other_backends(self, monkeypatch):
        class Memory(fileio.BaseStorageBackend):
            def get(self, path):
                return dict(a=encode(PHOTO), b=b'')[path]

            get_text = None

        monkeypatch.setitem(fileio.backends.registry_utils.backends, 'memory', Memory)
        step = LoadImageFromFile(backend_args=dict(backend='memory'))
        assert np.array_equal(step(dict(img_path='a'))['img'][..., ::-1], PHOTO)
        for path, reason in (('b', 'empty'), ('c', "'c'")):
            with pytest.raises(BadImageError, match=f'{path}: .*{reason}'):
                step(dict(img_path=path))


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'us3l_mm'])
@pytest.mark.parametrize(
    'spelled', [dict(type='us3l_mm.LoadImageFromFile'), dict(type='LoadImageFromFile', _scope_='us3l_mm')]
)
def test_every_scope_builds_it(scope, spelled):
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        assert type(registry.build(spelled)) is LoadImageFromFile


def test_inferencers_find_it_in_our_configs():
    """They put their own in its place, and look for the plain name."""
    from mmdet.apis import DetInferencer
    from mmpretrain.datasets import remove_transform

    pipeline = read_config('configs/linear/r18_4xb512-60e_in1k.py').test_dataloader.dataset.pipeline
    assert [step.type for step in remove_transform(pipeline, 'LoadImageFromFile')] == [
        step.type for step in pipeline[1:]
    ]
    init_default_scope('mmdet')
    for name in (
        'retinanet_r18_fpn_1x_coco',
        'faster-rcnn_r50_fpn_voc-custom',
        'slimmable-faster-rcnn_r50_fpn_1x_coco',
    ):
        cfg = read_config(f'configs/det/{name}.py', dict(classes=['cat']) if 'custom' in name else None)
        pipeline = DetInferencer._init_pipeline(object.__new__(DetInferencer), cfg)
        results = pipeline(dict(img=PHOTO, img_id=0))
        assert results['inputs'].shape[0] == 3


def test_folders_are_searched_for_all_that_loads(tmp_path):
    init_default_scope('mmpretrain')
    for suffix in IMAGE_EXTENSIONS:
        Image.fromarray(PHOTO if suffix != '.pgm' else PHOTO[..., 0]).save(tmp_path / f'a{suffix}')
    data = dict(type='CustomDataset', data_root=str(tmp_path), with_label=False, pipeline=[OURS])
    dataset = DATASETS.build(dict(data, extensions=IMAGE_EXTENSIONS))
    assert len(dataset) == len(IMAGE_EXTENSIONS) > len(DATASETS.build(data))
    assert all(sample['img'].shape == PHOTO.shape for sample in dataset)


class TestSkipping:
    @pytest.fixture
    def build(self, tmp_path):
        """Build a data set of good and bad images; the lists of the bad ones are removed again."""
        init_default_scope('mmpretrain')
        steps = []

        def build(good, bad, **options):
            for i in range(good):
                save(tmp_path / f'good{i}.png', encode(PHOTO))
            for i in range(bad):
                save(tmp_path / f'bad{i}.png', b'')
            step = dict(type='us3l_mm.LoadImageFromFile', on_bad_image='skip', **options)
            dataset = DATASETS.build(
                dict(type='CustomDataset', data_root=str(tmp_path), with_label=False, pipeline=[step])
            )
            steps.append(dataset.pipeline.transforms[0])
            return dataset, steps[-1]

        yield build
        for step in steps:
            if os.path.exists(step.list_file):
                os.unlink(step.list_file)

    def test_another_image_is_drawn_and_each_bad_one_counted_once(self, build, tmp_path):
        dataset, step = build(4, 2, max_bad_images=2)
        assert step.bad_images() == {}
        for _ in range(3):
            names = [os.path.basename(dataset[i]['img_path']) for i in range(6)]
            assert all(name.startswith('good') for name in names)
        errors = step.bad_images()
        assert set(errors) == {str(tmp_path / f'bad{i}.png') for i in range(2)}
        assert all(path in error and 'empty' in error for path, error in errors.items())

    @pytest.mark.parametrize('limit', [0, 2])
    def test_ends_beyond_the_limit(self, build, limit):
        dataset, step = build(4, 3, max_bad_images=limit)
        with pytest.raises(
            BadImageError, match=f'{limit + 1} bad images, more than max_bad_images={limit}: .*bad0.png'
        ) as e:
            [dataset[i] for i in range(7)]
        assert step.list_file in str(e.value) and 'raise max_bad_images' in str(e.value)
        assert len(step.bad_images()) == limit + 1

    def test_ends_where_nothing_good_is_drawn(self, build):
        dataset, _ = build(0, 2)
        with pytest.raises(BadImageError, match=r'2 bad images, 100 were drawn in a row: .*bad\d.png.*bad\d.png'):
            dataset[0]

    def test_good_images_in_between_start_the_row_anew(self, build):
        dataset, _ = build(1, 1)
        step = dataset.pipeline.transforms[0]
        for _ in range(120):
            assert step(dict(img_path=dataset[0]['img_path'].replace('good', 'bad'))) is None
            step(dict(img_path=dataset[0]['img_path'].replace('bad', 'good')))

    def test_copies_share_the_list(self, build, tmp_path):
        """As workers have them, whether forked or spawned."""
        dataset, step = build(0, 3, max_bad_images=2)
        copies = [pickle.loads(pickle.dumps(step)) for _ in range(3)]
        for i in range(2):
            assert copies[i](dict(img_path=str(tmp_path / f'bad{i}.png'))) is None
        assert len(step.bad_images()) == 2
        with pytest.raises(BadImageError, match='3 bad images'):
            copies[2](dict(img_path=str(tmp_path / 'bad2.png')))

    def test_good_files_leave_no_list(self, build):
        dataset, step = build(2, 0)
        assert len([sample for sample in dataset]) == 2
        assert not os.path.exists(step.list_file)
