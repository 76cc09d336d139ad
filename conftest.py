"""What every test starts from: fixed seeds, one thread, and no state of mmengine left by another test."""

import ast
import copy
import functools
import gc
import random
import runpy
import signal
import sys

import mmengine.config.config
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin

import us3l_mm  # noqa: F401  before anything imports mmcv.ops
from builders import ROOT, find_script

# Tiny nets are many times faster so where cores are shared, and sums have one order. Here, not in a fixture,
# so that it holds for fixtures of a wider scope too.
torch.set_num_threads(1)
# mmengine writes the config with each checkpoint. To lay it out by yapf takes a third of a tiny training, so here it is
# only checked to be Python; processes that tests start have yapf.
mmengine.config.config.FormatCode = lambda text, **_: (text, bool(ast.parse(text)))
_parse = Config.fromfile
_parse_cached = functools.cache(_parse)


def _managers(cls=ManagerMixin):
    """Classes with global instances of their own: loggers, and each class of visualizers, among others."""
    yield cls
    for sub in cls.__subclasses__():
        yield from _managers(sub)


def _forget_instances():
    for manager in _managers():
        manager._instance_dict.clear()


def pytest_collection_modifyitems(items):
    """Skip tests that need a GPU where there is none; files with slow tests first, so that none is waited for."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(pytest.mark.skip(reason='needs a GPU, and torch finds none here'))


def pytest_collection_finish():
    """Leave what is imported out of the collections of garbage: mmengine makes one, of 0.3 s, for each data set."""
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_start():
    """Seed everything and give mmengine's global managers a fresh life; take back what tools set for the process."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    _forget_instances()
    handler = signal.getsignal(signal.SIGTERM)
    yield
    # That of a tool would keep alive the pools of later tests: mmdet's metrics end theirs by this signal.
    signal.signal(signal.SIGTERM, handler)
    _forget_instances()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def mmpretrain_scope():
    """Default scope of the pretraining configs, so that mmpretrain's types need no prefix."""
    return DefaultScope.get_instance('test', scope_name='mmpretrain')


@pytest.fixture
def parse_once(monkeypatch):
    """Read each file in configs/ once a process: what is made of it later is made of a copy."""

    def fromfile(path, *args, **kwargs):
        if args or kwargs or not (ROOT / path).is_relative_to(ROOT / 'configs'):
            return _parse(path, *args, **kwargs)
        return copy.deepcopy(_parse_cached(ROOT / path))

    monkeypatch.setattr(Config, 'fromfile', fromfile)


@pytest.fixture
def no_random_weights(monkeypatch):
    """Where only shapes are asked for: random values take seconds."""
    for draw in ('uniform_', 'normal_'):
        monkeypatch.setattr(torch.Tensor, draw, lambda tensor, *_, **__: tensor)


@pytest.fixture
def set_time():
    """Tell the time of training as a Runner does."""

    def tell(iteration, max_iters, epoch, max_epochs):
        hub = MessageHub.get_current_instance()
        for name, value in dict(iter=iteration, max_iters=max_iters, epoch=epoch, max_epochs=max_epochs).items():
            hub.update_info(name, value)

    return tell


@pytest.fixture(scope='session')
def run_tool():
    """Run a script, found by its name, in this process, as its command line would."""

    def run(name, *args):
        script = find_script(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [str(script.relative_to(ROOT)), *map(str, args)])
            patch.chdir(ROOT)
            _forget_instances()
            runpy.run_path(str(script), run_name='__main__')

    return run


@pytest.fixture(scope='session')
def digit_scenes(tmp_path_factory, run_tool):
    """Folder of the detection set with 4 scenes to train on and 2 to test on; to be read only."""
    folder = tmp_path_factory.mktemp('digits') / 'scenes'
    run_tool('make_digit_scenes', folder, '--train', 4, '--val', 2)
    return folder
