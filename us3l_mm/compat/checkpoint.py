"""Load mmengine checkpoints without running code from them, with errors that say what is wrong with the file.

mmengine calls ``torch.load`` without ``weights_only``: up to PyTorch 2.5 that runs whatever the file holds,
from 2.6 on it refuses mmengine's own checkpoints, resuming included. The loaders here replace mmengine's for
local files, http(s) and object stores. Obsolete with an mmengine that passes ``weights_only`` and registers
its types: none yet (mmengine 0.10.7).
"""

import difflib
import io
import os
import pickle
import re
import zipfile
from typing import Any, NoReturn

import torch

from . import checkpoint_types

# In the first bytes of files that are a row of pickles, as torch < 1.6 wrote them.
_LEGACY_MAGIC = b'\xfc\x9cF\xf9 j\xa8P\x19'


def load_from_local(filename: str, map_location=None) -> Any:
    """Load a checkpoint file.

    Args:
        filename: path, ``~`` allowed.
        map_location: as for ``torch.load``.

    Returns:
        The checkpoint, mostly a dict with ``state_dict``, ``meta``, ``message_hub`` and the optimizer's
        state.

    Raises:
        FileNotFoundError: if there is no such file. RuntimeError: if the file is empty, cut off, corrupt or
        no torch file. pickle.UnpicklingError: if the file would run code or holds a type that is not allowed;
        nothing was run.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(_describe_missing(path))
    with open(path, 'rb') as file:
        return _load(file, path, map_location, _other_checkpoint(path))


def load_from_http(filename: str, map_location=None, model_dir: str | None = None, progress: bool = True) -> Any:
    """Download a checkpoint into torch hub's folder unless it is there, then load it as a local file.

    Rank 0 downloads first; other ranks then find the file, or fetch it where they do not share a disk.

    Args:
        filename: URL.
        map_location: as for ``torch.load``.
        model_dir: folder to keep the file in; by default ``checkpoints`` in torch hub's folder.
        progress: show a progress bar.

    Raises:
        RuntimeError: as :func:`load_from_local`.
        pickle.UnpicklingError: as :func:`load_from_local`.
    """
    from urllib.parse import urlparse

    from mmengine.dist import barrier, get_rank

    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, os.path.basename(urlparse(filename).path))
    if get_rank() > 0:
        barrier()
    if not os.path.exists(path):
        torch.hub.download_url_to_file(filename, path, progress=progress)
    if get_rank() == 0:
        barrier()
    return load_from_local(path, map_location)


def load_from_ceph(filename: str, map_location=None, backend: str = 'petrel') -> Any:
    """Load a checkpoint from an object store known to mmengine's file backends.

    Args:
        filename: address of the object.
        map_location: as for ``torch.load``.
        backend: name of mmengine's file backend.

    Raises:
        RuntimeError: as :func:`load_from_local`.
        pickle.UnpicklingError: as :func:`load_from_local`.
    """
    from mmengine.fileio import get_file_backend

    content = get_file_backend(filename, backend_args={'backend': backend}).get(filename)
    return _load(io.BytesIO(content), filename, map_location, None)


def load_from_openmmlab(filename: str, map_location=None) -> Any:
    """Load a checkpoint by its name in OpenMMLab's model list, or in ``open_mmlab.json`` of mmengine's home.

    Args:
        filename: ``open-mmlab://NAME`` or ``openmmlab://NAME``.
        map_location: as for ``torch.load``.

    Raises:
        KeyError: if the list has no such name.
        RuntimeError: as :func:`load_from_local`.
        pickle.UnpicklingError: as :func:`load_from_local`.
    """
    from mmengine.runner.checkpoint import (
        _get_mmengine_home,
        get_deprecated_model_names,
        get_external_models,
    )

    name = filename.partition('://')[2]
    name = get_deprecated_model_names().get(name, name)
    models = get_external_models()
    if name not in models:
        close = ', '.join(difflib.get_close_matches(name, models, n=3))
        raise KeyError(f'no checkpoint named {name!r} in the model list; near ones: {close or "none"}')
    if models[name].startswith(('http://', 'https://')):
        return load_from_http(models[name], map_location)
    return load_from_local(os.path.join(_get_mmengine_home(), models[name]), map_location)


def _refuse_pavi(filename: str, map_location=None) -> NoReturn:
    raise RuntimeError(
        f'pavi:// checkpoints are not loaded with torch {torch.__version__}, which would run code from them, '
        f'got {filename}; use torch >= 2.6, or download the file and give its path'
    )


def _load(file, name: str, map_location, other: str | None) -> Any:
    try:
        return checkpoint_types.load(file, map_location)
    except Exception as error:
        damage = _find_damage(file, error)
        if damage:
            fix = f'; use another checkpoint, such as {other}' if other else '; copy or download it again'
            size = file.seek(0, io.SEEK_END)
            raise RuntimeError(f'checkpoint {name} ({size} bytes) {damage}{fix}') from error
        if isinstance(error, pickle.UnpicklingError):
            # Without the cause: torch's text advises to load the file unsafely.
            raise pickle.UnpicklingError(_describe_refusal(name, error)) from None
        raise


def _describe_missing(path: str) -> str:
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
        return f'checkpoint {path} not found: its folder does not exist; check the path'
    names = [name for name in os.listdir(folder) if name.endswith('.pth')]
    if not names:
        return f'checkpoint {path} not found, and its folder holds no *.pth file; check the path'
    nearest = os.path.join(folder, _nearest(os.path.basename(path), names))
    return f'checkpoint {path} not found; the nearest in its folder is {nearest}'


def _nearest(name: str, names: list[str]) -> str:
    """The name with the nearest number, as of epoch_12.pth; without such a name the most alike."""
    number = re.compile(r'\d+')
    same = [other for other in names if number.sub('', other) == number.sub('', name) and number.search(other)]
    if same and number.search(name):
        wanted = int(number.findall(name)[-1])
        return min(same, key=lambda other: abs(int(number.findall(other)[-1]) - wanted))
    return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]


def _describe_refusal(name: str, error: Exception) -> str:
    found = re.search(r'GLOBAL (\S+)', str(error))
    reason = f'it names {found.group(1)}, which is not allowed' if found else _cause(error)
    return (
        f'checkpoint {name} was refused and nothing in it was executed: {reason}. Allowed are tensors, plain '
        'containers, NumPy arrays and the types of mmengine checkpoints. Get the file from a trusted source, '
        "or save its plain tensors anew: torch.save(dict(state_dict=model.state_dict()), 'weights.pth')"
    )


def _cause(error: Exception) -> str:
    """The one line of an error that names the cause: torch wraps it into advice to load unsafely."""
    found = re.search(r'WeightsUnpickler error:\s*(.+)', str(error))
    return found.group(1).strip() if found else f'{type(error).__name__}: {error}'.splitlines()[0]


def _find_damage(file, error: Exception) -> str | None:
    """What is wrong with the bytes of a file that failed to load; None if they are in order."""
    file.seek(0)
    head = file.read(32)
    if not head:
        return 'is empty'
    if head.startswith(b'PK\x03\x04'):
        try:
            with zipfile.ZipFile(file) as archive:
                if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                    return 'is a TorchScript archive, no checkpoint'
                bad = archive.testzip()
        except (zipfile.BadZipFile, EOFError, OSError):
            return 'is cut off or corrupt: its zip index or a header is broken'
        return f'is corrupt: wrong checksum of {bad}' if bad else None
    if 'GLOBAL' in str(error):
        return None
    if _LEGACY_MAGIC not in head:
        return f'is no torch checkpoint: it begins with {head[:8]!r}'
    # A RuntimeError may also be about the device asked for, which is no fault of the file.
    bytes_at_fault = isinstance(error, (EOFError, pickle.UnpicklingError)) or 'corrupt' in str(error)
    return f'is cut off or corrupt: {_cause(error)}' if bytes_at_fault else None


def _other_checkpoint(path: str) -> str | None:
    """The newest other checkpoint beside a file, None if there is none."""
    folder = os.path.dirname(path) or '.'
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith('.pth')]
    paths = [other for other in paths if os.path.isfile(other) and not os.path.samefile(other, path)]
    return max(paths, key=os.path.getmtime, default=None)


def apply() -> None:
    """Replace mmengine's loaders, and on PyTorch 2.6 or newer extend the allow-list of ``torch.load``."""
    from mmengine.runner import checkpoint
    from mmengine.runner.checkpoint import CheckpointLoader

    checkpoint_types.apply()
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
    CheckpointLoader.register_scheme((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_ceph, force=True)
    CheckpointLoader.register_scheme(('open-mmlab://', 'openmmlab://'), load_from_openmmlab, force=True)
    if not checkpoint_types.HAS_ALLOW_LIST:
        CheckpointLoader.register_scheme('pavi://', _refuse_pavi, force=True)
    # The other model-zoo schemes (torchvision, mmcls) call this name in mmengine's module.
    checkpoint.load_from_http = load_from_http
