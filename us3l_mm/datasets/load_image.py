"""Load images so that every error names the file, and so that a few bad files need not stop a training."""

import json
import logging
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import mmcv
import numpy as np
from mmcv.image.io import imread_flags, supported_backends
from mmengine import fileio
from mmengine.logging import print_log

from us3l_mm.registry import TRANSFORMS
from us3l_mm.slim.options import check_choice, check_count, check_dict, check_flag

from .image_bytes import decode_image

_LARGEST_FILE = 2**30  # bytes; no image of a size that is accepted needs as much
_PARTS = ('dataset', 'datasets', 'pipeline', 'transforms', 'pipelines')  # where a data set holds others, and loading
_MAX_IN_A_ROW = 100  # bad images that one worker draws before it gives up
_T = TypeVar('_T')


class BadImageError(ValueError):
    """An image file that cannot be used; the message names it."""


def read_image(
    path: str, color_type: str = 'color', backend: str | None = 'cv2', backend_args: dict | None = None
) -> np.ndarray:
    """Read an image file; see :func:`~us3l_mm.datasets.image_bytes.decode_image` for what comes out.

    Args:
        path (str): Path, or address that a file backend of mmengine knows.
        color_type (str): As there.
        backend (str, optional): As there.
        backend_args (dict, optional): File backend, see :func:`mmengine.fileio.get`.

    Raises:
        BadImageError: If the file is missing, no image, damaged, or of a kind that has no clear meaning as an image.
    """
    return decode_file(path, partial(decode_image, color_type=color_type, backend=backend), backend_args)


def decode_file(path: str, decode: Callable[[bytes], _T], backend_args: dict | None = None) -> _T:
    """Read a file and return what ``decode`` makes of its content; arguments and errors as for :func:`read_image`."""
    try:
        files = fileio.get_file_backend(path, backend_args=backend_args, enable_singleton=True)
        if isinstance(files, fileio.LocalBackend):
            _check_file(os.stat(path))
        data = files.get(path)
        if data is None:  # LMDB's answer
            raise ValueError(f'{type(files).__name__} has no entry of this name; backend_args: {backend_args}')
        if not data:
            raise ValueError('the file is empty')
        return decode(data)
    except Exception as error:
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise BadImageError(f'cannot load the image {_printable(path)}: {reason}') from error


def _check_file(status: os.stat_result) -> None:
    """Refuse what cannot be read to its end, such as a named pipe."""
    if not stat.S_ISREG(status.st_mode):
        raise ValueError('a folder' if stat.S_ISDIR(status.st_mode) else 'a pipe, socket or device, no file')
    if status.st_size > _LARGEST_FILE:
        raise ValueError(f'{status.st_size} bytes are too many for an image')


def _printable(path: str) -> str:
    """Names of files may hold bytes that are no text."""
    return str(path).encode('utf-8', 'backslashreplace').decode()


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """Load an image of a pipeline; each error is a :class:`BadImageError` that names the file.

    In configs it is ``dict(type='LoadImageFromFile', _scope_='us3l_mm')``: inferencers of mmdet and mmpretrain look for
    a type of just this name. It sets ``img``, ``img_shape`` and ``ori_shape``, as mmcv's does.

    With ``on_bad_image='skip'`` the data set draws another image at random in the place of a bad one. Each bad file is
    told once in the log, over all workers and epochs of a process, and ``us3l_mm.BadImagesHook`` lists all at the end.
    For training only: in a test, other images would be measured.

    Args:
        to_float32 (bool): Whether to convert to float32. Defaults to False.
        color_type (str): ``'color'``, ``'grayscale'`` or another of :func:`mmcv.imfrombytes`. Defaults to ``'color'``.
        imdecode_backend (str, optional): Decoder for ordinary JPEGs. Defaults to ``'cv2'``.
        backend_args (dict, optional): File backend, see :func:`mmengine.fileio.get`. Defaults to None.
        on_bad_image (str): ``'stop'`` or ``'skip'``. Defaults to ``'stop'``.
        max_bad_images (int): How many files may be skipped. Defaults to 10.

    Raises:
        TypeError or ValueError: If an option has none of its values.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str | None = 'cv2',
        *,
        backend_args: dict | None = None,
        on_bad_image: str = 'stop',
        max_bad_images: int = 10,
    ) -> None:
        super().__init__(
            check_flag('to_float32', to_float32),
            check_choice('color_type', color_type, tuple(imread_flags)),
            check_choice('imdecode_backend', imdecode_backend, (*supported_backends, None)),
            backend_args=None if backend_args is None else check_dict('backend_args', backend_args),
        )
        self.on_bad_image = check_choice('on_bad_image', on_bad_image, ('stop', 'skip'))
        self.max_bad_images = check_count('max_bad_images', max_bad_images, least=0)
        # Workers get a copy of this object, by fork or by pickling: what they share is a file, made when it is needed.
        self.list_file = os.path.join(tempfile.gettempdir(), f'us3l_mm_bad_images_{uuid.uuid4().hex}.txt')
        self._in_a_row = 0

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load ``results['img_path']``; None means that the data set shall draw another image.

        Raises:
            BadImageError: If the file cannot be used, or more than ``max_bad_images`` files cannot.
        """
        try:
            loaded = self.load(results['img_path'])
        except BadImageError as error:
            if self.on_bad_image == 'stop':
                raise
            self._count(_printable(results['img_path']), error)
            return None
        self._in_a_row = 0
        results.update(loaded)
        return results

    def load(self, path: str) -> dict[str, Any]:
        """Load an image file; what is returned becomes part of a pipeline's results.

        Raises:
            BadImageError: If the file cannot be used.
        """
        img = read_image(path, self.color_type, self.imdecode_backend, self.backend_args)
        if self.to_float32:
            img = img.astype(np.float32)
        return dict(img=img, img_shape=img.shape[:2], ori_shape=img.shape[:2])

    def bad_images(self) -> dict[str, str]:
        """Errors by the paths of the files that were skipped, of all workers, in the order in which they were found."""
        if not os.path.exists(self.list_file):
            return {}
        with open(self.list_file, encoding='ascii') as file:
            return dict(json.loads(line) for line in file)

    def _count(self, path: str, error: BadImageError) -> None:
        """Add a file to the list.

        Raises:
            BadImageError: If there are too many.
        """
        known = self.bad_images()
        if path not in known:
            with open(self.list_file, 'a', encoding='ascii') as file:  # a short line is added as a whole
                file.write(json.dumps([path, str(error)]) + '\n')
            print_log(f'skipped: {error}', 'current', logging.WARNING)
            known = self.bad_images()  # another worker may have added its own
        self._in_a_row += 1
        if len(known) > self.max_bad_images:
            why = f'more than max_bad_images={self.max_bad_images}'
        elif self._in_a_row >= _MAX_IN_A_ROW:
            why = f'{self._in_a_row} were drawn in a row'
        else:
            return
        raise BadImageError(
            f'{len(known)} bad images, {why}: {", ".join(list(known)[:3])}, ...; all are in {self.list_file}. '
            'Repair or remove them, or raise max_bad_images of LoadImageFromFile in the pipeline'
        )


def find_loaders(part: Any) -> Iterator[LoadImageFromFile]:
    """Yield the loading transforms of a data set, of those inside it, and of their pipelines."""
    if isinstance(part, LoadImageFromFile):
        yield part
    for name in _PARTS:
        inner = getattr(part, name, None)
        for child in inner if isinstance(inner, (list, tuple)) else [inner]:
            if child is not None:
                yield from find_loaders(child)
