"""Allow-list of the types in a checkpoint, and a ``torch.load`` that builds no others.

From PyTorch 2.6 on, ``torch.load(weights_only=True)`` takes an allow-list. Older versions refuse mmengine's
HistoryBuffer and NumPy arrays in that mode whatever the list says, so they get an unpickler with the same list.

Obsolete with an mmengine that registers its types: none yet (mmengine 0.10.7).
"""

import argparse
import codecs
import collections
import pickle
import zipfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler

HAS_ALLOW_LIST = tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)
# Methods that mmengine's objects keep as attributes, so that they get into checkpoints.
_METHODS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}
# Booleans, integers, floats, complex numbers, bytes and text. No object arrays: those can hold anything.
_DTYPE_CODES = '?bhilqBHILQefdgFDGSU'


def _allowed_attribute(owner: type, name: str) -> Callable:
    """Replace ``getattr``, by which pickle stores methods, and return only the methods named above."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {owner!r}, {name!r}')
    return getattr(owner, name)


def allowed_globals() -> dict[str, Any]:
    """Return the types and functions that a checkpoint may name, by their full name in the file."""
    # Both spellings, so that either NumPy loads files of NumPy 1 and 2.
    multiarray = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    allowed = {
        f'numpy.{core}.multiarray.{function.__name__}': function
        for core in ('core', '_core')
        for function in multiarray
    }
    for code in _DTYPE_CODES:
        dtype_class = type(np.dtype(code))
        allowed[f'{dtype_class.__module__}.{dtype_class.__name__}'] = dtype_class
    allowed.update({
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        '_codecs.encode': codecs.encode,
        'builtins.getattr': _allowed_attribute,
        'builtins.bytes': bytes,
        'builtins.set': set,
        'builtins.frozenset': frozenset,
        'builtins.complex': complex,
        'builtins.bytearray': bytearray,
        'builtins.slice': slice,
        'torch.device': torch.device,
        'torch.Size': torch.Size,
        'collections.Counter': collections.Counter,
        'argparse.Namespace': argparse.Namespace,  # the options of a training, as DINO and DeiT save them
        **{f'{cls.__module__}.{cls.__qualname__}': cls for cls in (*_METHODS, ConfigDict)},
    })  # fmt: skip
    return allowed


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that looks names up in the allow-list only, so that nothing else can be built or called."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in our allow-list and in torch's.

        Raises:
            pickle.UnpicklingError: For any other name.
        """
        from torch._weights_only_unpickler import _get_allowed_globals

        full_name = f'{"builtins" if module == "__builtin__" else module}.{name}'
        for names in (allowed_globals(), _get_allowed_globals()):
            if full_name in names:
                return names[full_name]
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full_name}')


def load(file, map_location=None) -> Any:
    """Load a file as ``torch.load`` does, but build allowed types only.

    Args:
        file: Seekable binary file.
        map_location: As for ``torch.load``.

    Raises:
        pickle.UnpicklingError: If the file names anything that is not allowed; it was not run.
        RuntimeError: For a TorchScript archive, which holds a program.
    """
    if HAS_ALLOW_LIST:
        return torch.load(file, map_location=map_location, weights_only=True)
    # torch.load would pass a TorchScript archive to torch.jit.load.
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise RuntimeError('TorchScript archives are not loaded as checkpoints')
    file.seek(0)
    # Safe in spite of weights_only=False: RestrictedUnpickler.find_class sees every name in the file.
    restricted = SimpleNamespace(Unpickler=RestrictedUnpickler, load=_load_pickle, __name__='restricted')
    return torch.load(file, map_location=map_location, pickle_module=restricted, weights_only=False)


def _load_pickle(file, **kwargs) -> Any:
    return RestrictedUnpickler(file, **kwargs).load()


def apply() -> None:
    """Register the allow-list with torch, for every ``torch.load`` of the process."""
    if HAS_ALLOW_LIST:
        torch.serialization.add_safe_globals([(value, name) for name, value in allowed_globals().items()])
