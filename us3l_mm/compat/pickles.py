"""Read annotations and other data files without running code from them.

mmengine reads ``*.pkl`` by pickle, and YAML by a loader that calls whatever a tag names. mmpretrain reads CIFAR by
pickle and compares hashes before, but in an ``assert``, which ``python -O`` leaves out. mmdet lets NumPy unpickle a
file of OpenImages. Here pickles are refused, or read with plain types only where the environment variable
``US3L_ALLOW_PICKLE`` is 1. YAML and the files of CIFAR are always read with plain types only. Writing stays as it is.

Obsolete with packages that read data by formats that hold no code: none yet (mmengine 0.10.7, mmpretrain 1.2.0, mmdet
3.3.0).
"""

import functools
import io
import os
import pickle
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import yaml
from mmengine.fileio.handlers import pickle_handler, registry_utils, yaml_handler

from . import checkpoint_types
from .after_import import after_import

OPTION = 'US3L_ALLOW_PICKLE'


class PlainUnpickler(checkpoint_types.RestrictedUnpickler):
    """Unpickler of plain containers, numbers, NumPy arrays and tensors; it runs no code of a file."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the allow-list, see :class:`checkpoint_types.RestrictedUnpickler`."""
        if (module, name) == ('torch.storage', '_load_from_bytes'):  # of a tensor; torch's own would unpickle anything
            return _load_storage
        return super().find_class(module, name)


def _load_storage(content: bytes) -> Any:
    return checkpoint_types.load(io.BytesIO(content))


def load(file: BinaryIO, **options) -> Any:
    """Read a pickle of plain types, as :func:`pickle.load` does.

    Args:
        file: Binary file.
        **options: As for :class:`pickle.Unpickler`.

    Raises:
        pickle.UnpicklingError: If the file names anything else, or is no pickle; nothing in it was executed.
    """
    try:
        return PlainUnpickler(file, **options).load()
    except Exception as error:  # damaged files raise whatever their bytes say
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise pickle.UnpicklingError(
            f'was refused and nothing in it was executed: {cause}. '
            'Save it with plain containers, numbers, NumPy arrays and tensors only, or as JSON'
        ) from None


def loads(content: bytes, **options) -> Any:
    """Read a pickle of plain types from bytes, see :func:`load`."""
    return load(io.BytesIO(content), **options)


def load_if_allowed(file: BinaryIO, **options) -> Any:
    """Read a pickle of plain types if the user allows it.

    Raises:
        pickle.UnpicklingError: If the environment variable is not 1; else as :func:`load`.
    """
    allowed = os.environ.get(OPTION)
    if allowed != '1':
        raise pickle.UnpicklingError(
            f'is a pickle, which can run code as it is read, and {OPTION} is {allowed or "not set"}. Fix: save it as '
            f'JSON; or set {OPTION}=1 to read plain containers, numbers, NumPy arrays and tensors from it'
        )
    return load(file, **options)


class PlainPickleHandler(pickle_handler.PickleHandler):
    """mmengine's handler of pickles, which reads by :func:`load_if_allowed`."""

    def load_from_fileobj(self, file: BinaryIO, **kwargs) -> Any:
        """Read an open file."""
        return load_if_allowed(file, **kwargs)


class PlainYamlLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
    """YAML with plain types, and with tuples, which mmengine's configs have."""


PlainYamlLoader.add_constructor(
    'tag:yaml.org,2002:python/tuple', lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)


def _name_file(original: Callable) -> Callable:
    """Wrap mmengine's ``load`` (file, ...), whose handlers don't know the name of the file."""

    @functools.wraps(original)
    def wrapper(file, *args, **kwargs):
        try:
            return original(file, *args, **kwargs)
        except (pickle.UnpicklingError, yaml.YAMLError) as error:
            raise type(error)(f'{file} {error}') from None

    return wrapper


def _close_pickle(module: ModuleType) -> None:
    """Give a module that unpickles files :func:`load` and :func:`loads` in place of pickle's."""
    module.pickle = SimpleNamespace(load=load, loads=loads)


def _close_openimages(module: ModuleType) -> None:
    """Replace the method of mmdet that lets NumPy unpickle."""

    def relation_matrix(self, hierarchy_file: str) -> np.ndarray:
        with module.get_local_path(hierarchy_file, backend_args=self.backend_args) as path, open(path, 'rb') as file:
            try:
                tree = np.load(file, allow_pickle=False)
            except ValueError:  # an array written by its method `dump`, or another pickle
                file.seek(0)
                tree = _name_file(lambda _: load_if_allowed(file))(hierarchy_file)
        return tree[1:, 1:]

    module.OpenImagesChallengeDataset._get_relation_matrix = relation_matrix


# What is done to each module that unpickles files by itself.
_CLOSE = {
    'mmpretrain.datasets.cifar': _close_pickle,
    'mmpretrain.models.multimodal.ram.ram': _close_pickle,
    'mmdet.datasets.openimages': _close_openimages,
}


def apply() -> bool:
    """Replace mmengine's readers of pickles and YAML, and close the modules above."""
    from mmengine.fileio import io as fileio

    for file_format in ('pkl', 'pickle'):
        registry_utils.file_handlers[file_format] = PlainPickleHandler()
    yaml_handler.Loader = PlainYamlLoader
    load, named = fileio.load, _name_file(fileio.load)
    for module in list(sys.modules.values()):
        if getattr(module, '__dict__', {}).get('load') is load:
            module.load = named
    after_import(_CLOSE)
    return True
