"""Sizes of images from their headers: those of the pixels that are loaded."""

import mmcv
import numpy as np
import pytest
from PIL import Image

from us3l_mm.datasets.found import image_size


@pytest.mark.parametrize('orientation', [None, *range(1, 9)])
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tif', 'bmp'])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_size_is_that_of_the_pixels_that_are_read(tmp_path, suffix, mode, orientation):
    path, exif = str(tmp_path / f'a.{suffix}'), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    options = {} if suffix == 'bmp' else dict(exif=exif if suffix == 'tif' else exif.tobytes())
    Image.fromarray(np.zeros((20, 30), np.uint8)).convert(mode).save(path, **options)
    backends = ['pillow'] if suffix == 'webp' else ['cv2', 'pillow']  # OpenCV does not turn WebP
    for backend in backends:
        assert image_size(path) == mmcv.imread(path, backend=backend).shape[:2]


def test_only_the_header_of_an_ordinary_file_is_read(tmp_path):
    path = tmp_path / 'a.jpg'
    Image.effect_noise((64, 48), 50).save(path)
    path.write_bytes(path.read_bytes()[:700])
    assert image_size(str(path)) == (48, 64)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / 'a.jpg').write_text('text')
    with pytest.raises(ValueError, match=r'cannot read the image .*a\.jpg'):
        image_size(str(tmp_path / 'a.jpg'))
    for path in (tmp_path / 'b.jpg', tmp_path):
        with pytest.raises(FileNotFoundError, match=f'no image file {path}'):
            image_size(str(path))
