"""From the bytes of an image file to its pixels, whatever its depth, channels and orientation."""

import io
import struct

import cv2
import mmcv
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# What folders are searched for: all of it loads.
IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp', '.gif')
# Pillow knows more, among them formats that start another program.
FORMATS = ('JPEG', 'PNG', 'BMP', 'PPM', 'TIFF', 'WEBP', 'GIF', 'JPEG2000')
SIDEWAYS = (5, 6, 7, 8)  # values of EXIF's orientation that swap width and height
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
REDUCTIONS = tuple(_REDUCED)  # what libjpeg divides the sides of an image by, at little cost
_LENGTH, _FRAME = struct.Struct('>H').unpack_from, struct.Struct('>BHHB').unpack_from


def decode_image(data: bytes, color_type: str = 'color', backend: str | None = 'cv2') -> np.ndarray:
    """Decode an image to uint8 pixels, (height, width, 3) in the order BGR or (height, width) if it shall be grey.

    mmcv decodes ordinary JPEGs, the fastest way. All else goes through Pillow, which notices damage and knows more
    kinds: 16 bits become 8, what is transparent becomes white, and the first of several images is taken.

    Args:
        data (bytes): Content of the file.
        color_type (str): As in :func:`mmcv.imfrombytes`: ``'color'`` or ``'grayscale'``, turned upright as the file
            says unless ``'_ignore_orientation'`` follows; or ``'unchanged'``, what mmcv makes of it.
        backend (str, optional): Decoder of mmcv; ``'tifffile'`` gives what it makes of it.

    Raises:
        Exception: If the data are damaged or no image, or hold values whose range is not known.
    """
    plain = _plain_jpeg_size(data) is not None
    as_stored = color_type == 'unchanged' or backend == 'tifffile'
    if plain or as_stored:
        pixels = mmcv.imfrombytes(data, flag=color_type, backend=backend)
        if pixels is None:
            raise ValueError(f'damaged, or no image that {backend} can decode; it {_start(data)}')
        return pixels
    return _decode_with_pillow(data, color_type)


def upright_jpeg_size(data: bytes, least: int = 1) -> tuple[int, int] | None:
    """Read height and width that an ordinary JPEG has once it is decoded, that is turned upright.

    Args:
        data (bytes): Content of the file.
        least (int): Shortest side of interest, in pixels.

    Returns:
        tuple[int, int] | None: None if it is no ordinary JPEG, or a side is shorter.

    Raises:
        ValueError: If the file is cut off.
    """
    size = _plain_jpeg_size(data)
    if size is None or min(size) < least:
        return None
    try:
        exif = Image.open(io.BytesIO(data), formats=('JPEG',)).getexif()
    except Exception:  # what Pillow makes of damaged EXIF data: errors of many kinds
        return None
    return size[::-1] if exif.get(ExifTags.Base.Orientation) in SIDEWAYS else size


def decode_reduced(data: bytes, factor: int) -> np.ndarray:
    """Decode an ordinary JPEG at a fraction of its size, by libjpeg's scaled inverse transforms, and turn it upright.

    Args:
        data (bytes): Content of the file, of which :func:`upright_jpeg_size` knows the size.
        factor (int): One of ``REDUCTIONS``, what height and width are divided by, rounded up.

    Returns:
        np.ndarray: uint8 pixels (height, width, 3) in the order BGR.

    Raises:
        ValueError: If the data are damaged.
    """
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[factor])
    if pixels is None:
        raise ValueError(f'damaged, or no image that cv2 can decode; it {_start(data)}')
    return pixels


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Stored height and width of a JPEG of one or three components of 8 bits that is not too large; None of all else.

    Raises:
        ValueError: If it ends too early. Decoders fill with grey what is missing, or what a broken copy left as zeros.
    """
    at = 2
    try:
        if data[:2] != b'\xff\xd8':
            return None
        while data[at] == 0xFF and not 0xC0 <= data[at + 1] <= 0xC2:  # until the frame header
            at += 2 + _LENGTH(data, at + 2)[0]
        bits, height, width, channels = _FRAME(data, at + 4)
    except (IndexError, struct.error):
        return None
    if data[at] != 0xFF:
        return None
    if data.rfind(b'\xff\xd9') < at:  # a thumbnail's own end mark stands before the frame header
        raise ValueError('a JPEG without its end mark: it is cut off')
    largest = Image.MAX_IMAGE_PIXELS or float('inf')
    return (height, width) if bits == 8 and channels in (1, 3) and 0 < height * width <= largest else None


def _decode_with_pillow(data: bytes, color_type: str) -> np.ndarray:
    """Decode as :func:`decode_image` says."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f'no image of a known format; it {_start(data)}') from None
    kind = image.format
    if kind == 'PNG':
        Image.open(io.BytesIO(data), formats=FORMATS).verify()  # checksums, which load() does not look at
    if kind == 'PNG' and data[24] in (2, 4, 16) and image.mode != 'P' and 'transparency' in image.info:
        raise ValueError(f'a PNG of {data[24]} bits with one transparent colour; save it with an alpha channel')
    if not color_type.endswith('ignore_orientation'):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16') or (image.mode == 'I' and kind in ('PNG', 'PPM')):  # 0 to 65535
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ('I', 'F'):
        raise ValueError('32-bit values, whose range is not known; save it with 8 or 16 bits')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    if color_type.startswith('grayscale'):
        return np.array(image.convert('L'))
    return cv2.cvtColor(np.asarray(image.convert('RGB')), cv2.COLOR_RGB2BGR)


def _start(data: bytes) -> str:
    return f'starts with {data[:12]!r}'
