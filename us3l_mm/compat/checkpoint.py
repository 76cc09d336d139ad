"""Load mmengine checkpoints without running code from them.

mmengine calls ``torch.load`` without ``weights_only``. Up to PyTorch 2.5 that runs any code in the file; from 2.6 on it
refuses mmengine's own checkpoints, so that no training can be resumed. Downloads run code with every version, and so
do resuming and inference: they run the config that a checkpoint holds as text. The loaders here replace mmengine's for
local files and http(s). No loader hands that text on, or weights with NaN, which mmengine would train on.

Obsolete with an mmengine that passes ``weights_only`` and registers its types: none yet (mmengine 0.10.7).
"""

import functools
import os
import pickle
import re
import zipfile
from types import ModuleType
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor, nn

from us3l_mm.utils.bad_values import find_bad_values
from us3l_mm.utils.match_checkpoint import match_checkpoint, weights_of

from . import checkpoint_types


def load_from_local(filename: str, map_location=None) -> Any:
    """Load a checkpoint file.

    Args:
        filename (str): Path, ``~`` allowed.
        map_location: As for :func:`torch.load`.

    Returns:
        Any: The checkpoint, usually a dict with ``state_dict``, ``meta``, ``message_hub`` and ``optimizer``; of a file
        ``*.safetensors`` its tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the file needs the package safetensors.
        RuntimeError: If the file is no checkpoint, or damaged.
        pickle.UnpicklingError: If the file would run code or holds a type that is not allowed; no code was run.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} not found')
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    with open(path, 'rb') as file:
        damaged = _find_damage(file)
        if damaged is not None:
            raise RuntimeError(f'checkpoint {path} is damaged: {damaged}; copy or download it again')
        try:
            return checkpoint_types.load(file, map_location)
        except Exception as error:  # damaged files raise whatever their bytes say
            cause = _cause(error)
            if re.search('GLOBAL|Can only build', str(error)):
                # `from None`, because torch's message advises to load the file unsafely.
                raise pickle.UnpicklingError(_describe_refusal(path, cause)) from None
            raise _cannot_load(path, cause) from error


def _cannot_load(path: str, cause: object) -> RuntimeError:
    return RuntimeError(f'cannot load checkpoint {path} ({os.path.getsize(path)} bytes): {cause}')


def _load_safetensors(path: str, map_location: Any) -> dict[str, Tensor]:
    """Load a file of the format safetensors, which holds tensors and nothing else."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f'checkpoint {path} needs the package safetensors. Fix: pip install safetensors') from error
    try:
        state = load_file(path)
    except Exception as error:  # of the Rust library
        raise _cannot_load(path, error) from error
    return {key: value if map_location is None else value.to(map_location) for key, value in state.items()}


def load_from_http(filename: str, map_location=None, model_dir: str | None = None, progress: bool = True) -> Any:
    """Download a checkpoint unless it is there, then load it as a local file.

    Rank 0 downloads first. The other ranks then find the file, or download it too if they don't share a disk.

    Args:
        filename (str): URL.
        map_location: As for :func:`torch.load`.
        model_dir (str, optional): Folder to keep the file in. Defaults to ``checkpoints`` in torch hub's folder.
        progress (bool): Whether to show a progress bar. Defaults to True.

    Returns:
        Any: As :func:`load_from_local`.

    Raises:
        RuntimeError: As :func:`load_from_local`.
        pickle.UnpicklingError: As :func:`load_from_local`.
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


def _find_damage(file: BinaryIO) -> str | None:
    """Say what is wrong with a zip file, whose checksums torch does not compare; None for sound and for other files."""
    try:
        if not zipfile.is_zipfile(file):  # another format, or cut off, which loading finds out
            return None
        with zipfile.ZipFile(file) as archive:
            member = archive.testzip()
        return None if member is None else f'wrong checksum of {member}'
    except Exception as error:  # damaged headers raise whatever their bytes say
        return f'{type(error).__name__}: {error}'
    finally:
        file.seek(0)


def _without_config_text(checkpoint: Any) -> Any:
    """Remove the configs that mmengine would run as Python, in place, and return the checkpoint."""
    if isinstance(checkpoint, dict):
        hub = checkpoint.get('message_hub')
        for holder in (checkpoint.get('meta'), hub.get('runtime_info') if isinstance(hub, dict) else None):
            if isinstance(holder, dict):
                for key in ('cfg', 'config'):
                    holder.pop(key, None)
    return checkpoint


def _check_content(checkpoint: Any, name: str) -> None:
    """Raise RuntimeError if a checkpoint is no dict, or its weights are not what a sound training writes."""
    if not isinstance(checkpoint, dict):
        raise RuntimeError(f'checkpoint {name} holds a {type(checkpoint).__name__}, not a dict; give a checkpoint')
    states = {key: checkpoint[key] for key in ('state_dict', 'ema_state_dict') if key in checkpoint}
    for key, state in (states or {'the checkpoint': weights_of(checkpoint)}).items():
        fault = find_bad_values(state)
        if fault is not None:
            raise RuntimeError(
                f'checkpoint {name} cannot be used, its {key} is unsound: {fault}. Use an earlier checkpoint, or get '
                'the file anew'
            )


def _load_pretrained(init: Any, module: nn.Module) -> None:
    """Load what ``init_cfg`` names, in place of mmengine's ``PretrainedInit``, which finds no prefix by itself."""
    from mmengine.model import update_init_info
    from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict

    checkpoint = CheckpointLoader.load_checkpoint(init.checkpoint, map_location=init.map_location)
    match = match_checkpoint(checkpoint, module, init.checkpoint, init.prefix)
    load_state_dict(module, match.state, strict=False, logger='current')
    if hasattr(module, '_params_init_info'):
        update_init_info(module, init_info=init._get_init_info())


def _refuse_scheme(filename: str, map_location=None) -> NoReturn:
    raise RuntimeError(
        f'mmengine would run code from {filename} with torch {torch.__version__}; '
        'use torch >= 2.6, or download the file and give its path'
    )


def _describe_refusal(name: str, cause: str) -> str:
    found = re.search(r'GLOBAL (\S+)', cause)
    reason = f'it names {found.group(1)}, which is not allowed' if found else cause
    return (
        f'checkpoint {name} was refused and nothing in it was executed: {reason}. '
        'Save it with tensors, plain containers, NumPy arrays and types of mmengine only'
    )


def _cause(error: Exception) -> str:
    """Extract the cause from the message of an error, without torch's advice to load unsafely."""
    text = str(error).strip()
    found = re.search(r'WeightsUnpickler error:\s*(.+)|(.*(?:GLOBAL|TorchScript).*)', text)
    if found:
        return (found.group(1) or found.group(2)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def close_fork(module: ModuleType) -> None:
    """Let the loader of the onedl fork of mmengine refuse what torch refuses: it would run the code in the file."""
    if hasattr(module, '_safe_torch_load'):
        module._safe_torch_load = lambda file, map_location=None, weights_only=None: torch.load(
            file, map_location=map_location, weights_only=True
        )


def apply() -> bool:
    """Replace mmengine's loaders, and extend the allow-list of ``torch.load``."""
    from mmengine.model import PretrainedInit
    from mmengine.runner import checkpoint
    from mmengine.runner.checkpoint import CheckpointLoader

    checkpoint_types.apply()
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
    if not checkpoint_types.HAS_ALLOW_LIST:
        others = (r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'open-mmlab://', 'openmmlab://', 'pavi://')
        CheckpointLoader.register_scheme(others, _refuse_scheme, force=True)
    load = CheckpointLoader.load_checkpoint

    @functools.wraps(load)
    def load_and_check(cls, filename, *args, **kwargs):
        found = load(filename, *args, **kwargs)
        _check_content(found, filename)
        return _without_config_text(found)

    CheckpointLoader.load_checkpoint = classmethod(load_and_check)
    PretrainedInit.__call__ = _load_pretrained
    # The loaders of model zoos (openmmlab, torchvision, mmcls) look this name up in mmengine's module.
    checkpoint.load_from_http = load_from_http
    close_fork(checkpoint)
    return True
