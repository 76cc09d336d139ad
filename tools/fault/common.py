"""What the fault scripts share: tiny trainings in processes of their own, and the table of what came out.

A process is forked from one that has imported everything, which saves seconds each time.
"""

import ast
import contextlib
import gc
import math
import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import mmengine.config.config
import torch

from us3l_mm.utils.tables import markdown_table

ROOT = Path(__file__).parents[2]
EPOCHS, ITERATIONS = 4, 3  # of the configs here, and iterations of each epoch
GOOD, SILENT, LOST = 'equal or clear', 'silent', 'lost'
_PRELOAD = [
    'us3l_mm',  # first: it makes the others work
    'matplotlib.pyplot',
    'mmpretrain.datasets',
    'mmpretrain.engine',
    'mmpretrain.evaluation',
    'mmpretrain.models',
    'sklearn.datasets',
    'us3l_mm.config',
    'us3l_mm.datasets',
    'us3l_mm.engine',
    'us3l_mm.evaluation',
    'us3l_mm.models',
]
_TINY = f"""
train_dataloader = dict(batch_size=16, num_workers=0, dataset=dict(per_class=5))
train_cfg = dict(by_epoch=True, max_epochs={EPOCHS})
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', T_max={EPOCHS}, by_epoch=True)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=3))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
backbone = dict(stem_channels=16, base_channels=16, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
"""
US3L = f"""
_base_ = ['{ROOT}/configs/_base_/models/us3l_nce.py', '{ROOT}/configs/_base_/datasets/digits_us3l.py',
          '{ROOT}/configs/_base_/default_runtime.py']
{_TINY}
neck = dict(in_channels=32, hid_channels=32, out_channels=16)
model = dict(backbone=backbone, neck=neck, distill_predictor=dict(in_channels=16, hid_channels=32, out_channels=16))
"""
SUPERVISED = f"""
_base_ = ['{ROOT}/configs/_base_/models/supervised.py', '{ROOT}/configs/_base_/digits_supervised_2e.py']
{_TINY}
train_cfg = dict(by_epoch=True, max_epochs={EPOCHS}, val_interval=1)
val_dataloader = dict(dataset=dict(per_class=10))
val_evaluator = dict(topk=(1,))
backbone.update(norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d', momentum=0.6))  # it learns in an epoch
model = dict(data_preprocessor=dict(num_classes=10), backbone=backbone, head=dict(num_classes=10, in_channels=32))
optim_wrapper['optimizer']['lr'] = 0.3
default_hooks['checkpoint']['save_best'] = 'accuracy/top1'
"""


def lighten() -> None:
    """Leave out what takes more than half of a tiny training, in this process and those forked from it.

    For each data set mmengine collects garbage, here not among what is imported; with each checkpoint it writes the
    config, here not laid out by yapf, only checked to be Python.
    """
    gc.freeze()
    mmengine.config.config.FormatCode = lambda text, **_: (text, bool(ast.parse(text)))


def start(
    tool: str,
    *arguments: object,
    log: Path,
    before: Callable[[], object] | None = None,
    env: dict[str, str] | None = None,
) -> BaseProcess:
    """Start a tool in a process and a process group of its own.

    Args:
        tool (str): Path from the root of the repository, such as ``'tools/train.py'``.
        *arguments: Its arguments.
        log (Path): Where all that it prints goes.
        before (Callable, optional): What to do in the process first; a function of a module, or ``partial`` of one.
            Defaults to None.
        env (dict[str, str], optional): Environment variables to set there. Defaults to None.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_PRELOAD)
    process = context.Process(target=_run, args=(tool, [str(part) for part in arguments], log, before, env or {}))
    process.start()
    return process


def _run(tool: str, arguments: list[str], log: Path, before: Callable | None, env: dict[str, str]) -> None:
    os.setsid()
    lighten()
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
        stream.reconfigure(line_buffering=True)
    os.chdir(ROOT)
    os.environ.update(env)
    torch.set_num_threads(1)
    sys.argv = [tool, *arguments]
    if before is not None:
        before()
    runpy.run_path(tool, run_name='__main__')


def run(tool: str, *arguments: object, log: Path, **options: Any) -> tuple[int, str]:
    """Run a tool to its end, see :func:`start`; return its exit code and what it printed."""
    process = start(tool, *arguments, log=log, **options)
    process.join(600)
    kill(process)
    return process.exitcode, log.read_text(errors='replace')


def kill(process: BaseProcess) -> None:
    """End a process and those that it started, by SIGKILL."""
    if process.is_alive():
        process.kill()
    process.join()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(process: BaseProcess, log: Path, pattern: str, count: int = 1, seconds: float = 300) -> bool:
    """Wait until what a process prints has a regular expression ``count`` times; False if it ends before.

    Raises:
        TimeoutError: If it does neither.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        alive = process.is_alive()  # before the last look
        if log.exists() and len(re.findall(pattern, log.read_text(errors='replace'))) >= count:
            return True
        if not alive:
            return False
        time.sleep(0.005)
    raise TimeoutError(f'{log} has no {pattern!r} after {seconds} s')


def differences(first: Path, second: Path) -> list[str]:
    """Where two checkpoints differ in any bit of weights, optimizer, schedulers, counters, logged losses and widths."""
    return list(_differ(*(_state(torch.load(path, weights_only=True)) for path in (first, second)), ''))


def _state(checkpoint: dict) -> dict:
    """What the rest of a training depends on; not its times, its text and its paths."""
    hub = checkpoint['message_hub']
    logged = {key: log for key, log in hub['log_scalars'].items() if not re.search('time|memory|eta', key)}
    return dict(
        {key: checkpoint.get(key) for key in ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict')},
        place=[checkpoint['meta'][key] for key in ('iter', 'epoch', 'seed')],
        counted={key: hub['runtime_info'].get(key) for key in ('max_iters', 'best_score')},
        logged={key: log._log_history.tolist() for key, log in logged.items()},
    )


def _differ(a: Any, b: Any, where: str) -> Iterable[str]:
    if type(a) is not type(b):
        yield f'{where}: {type(a).__name__} and {type(b).__name__}'
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(a, b):
            yield f'{where}: other values'
    elif isinstance(a, dict):
        if a.keys() != b.keys():
            yield f'{where}: other keys {sorted(map(str, a.keys() ^ b.keys()))[:3]}'
        for key in a.keys() & b.keys():
            yield from _differ(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            yield f'{where}: {len(a)} and {len(b)} entries'
        for index, pair in enumerate(zip(a, b)):
            yield from _differ(*pair, f'{where}[{index}]')
    elif a != b and not (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)):
        yield f'{where}: {a} and {b}'


class Outcomes:
    """What came out of each case, printed as a table at the end."""

    def __init__(self) -> None:
        self.cases: list[tuple[str, str, str]] = []

    def add(self, kind: str, outcome: str, case: str) -> None:
        """Note the outcome of a case: GOOD, SILENT or LOST."""
        self.cases.append((kind, outcome, case))
        print(f'{len(self.cases):5d} {kind}: {case}: {outcome}', flush=True)

    def finish(self) -> None:
        """Print the table and each case that is not good.

        Raises:
            SystemExit: With exit code 1 if there is such a case.
        """
        counts = Counter((kind, outcome) for kind, outcome, _ in self.cases)
        rows = []
        for kind in dict.fromkeys(kind for kind, _, _ in self.cases):
            numbers = [counts[kind, outcome] for outcome in (GOOD, SILENT, LOST)]
            rows.append([kind, sum(numbers), *numbers])
        rows.append(['all', *(sum(column) for column in list(zip(*rows))[1:])])
        print('\n' + markdown_table(['what was tried', 'tried', GOOD, SILENT, LOST], rows))
        bad = [f'- {outcome}: {kind}: {case}' for kind, outcome, case in self.cases if outcome != GOOD]
        if bad:
            print('\n' + '\n'.join(bad))
            raise SystemExit(1)
