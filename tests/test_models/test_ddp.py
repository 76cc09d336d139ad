"""Two processes over gloo, against one process that has all images."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from us3l_mm.models import NTXentLoss
from us3l_mm.models.losses import nt_xent

ROOT = Path(__file__).parents[2]
PROCESSES = 2

_spec = importlib.util.spec_from_file_location('ddp_worker', Path(__file__).with_name('ddp_worker.py'))
ddp_worker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ddp_worker)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What each process has at its end. All scenarios share two processes, since starting them is slow."""
    folder = tmp_path_factory.mktemp('ddp')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    processes = [
        subprocess.Popen(
            [sys.executable, ddp_worker.__file__, str(rank), str(PROCESSES), str(port), str(folder / f'{rank}.pt')],
            env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), '\n'.join(outputs)[-6000:]
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(PROCESSES)]


def by_halves(module):
    """Make a module work on each process's images separately."""
    forward = module.forward
    module.forward = lambda x: torch.cat([forward(half) for half in x.chunk(PROCESSES)])


def in_one_process(name):
    model = ddp_worker.make_model(*ddp_worker.SCENARIOS[name])
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            by_halves(module)
        elif isinstance(module, NTXentLoss) and not module.gather:
            module.forward = lambda pred, target: (
                sum(nt_xent(p, t) for p, t in zip(pred.chunk(PROCESSES), target.chunk(PROCESSES))) / PROCESSES
            )
    return ddp_worker.train(model, model.train_step, ddp_worker.make_views())


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('name', ddp_worker.SCENARIOS)
def test_two_processes_equal_one_on_the_joint_batch(name, results):
    logs, expected = in_one_process(name)
    ranks = [result[name] for result in results]
    for _, state, _ in ranks:
        assert state.keys() == expected.keys()
        for key, parameter in state.items():
            error = (parameter - expected[key]).abs().max() / expected[key].abs().max().clamp(min=1e-6)
            assert error < 1e-6, f'{key}: relative error {error:.1e}'
    for iteration, log in enumerate(logs):
        mean = sum(rank_logs[iteration]['loss'] for rank_logs, *_ in ranks) / PROCESSES
        assert mean == pytest.approx(log['loss'], rel=1e-6)
        if name.startswith('nce'):  # a loss over the gathered batch is the same everywhere
            for rank_logs, *_ in ranks:
                assert rank_logs[iteration]['loss'] == pytest.approx(log['loss'], rel=1e-6)


@pytest.mark.parametrize('name', ddp_worker.SCENARIOS)
def test_processes_hold_equal_weights(name, results):
    first, second = (result[name][1] for result in results)
    assert first.keys() == second.keys()
    assert {key.split('.')[0] for key in first} >= {'backbone', 'neck', 'distill_predictor'}
    assert not [key for key in first if not torch.equal(first[key], second[key])]


@pytest.mark.parametrize('name', ddp_worker.SCENARIOS)
def test_processes_draw_the_same_widths(name, results):
    logs = [result[name][0] for result in results]
    widths = [[{key: log[key] for key in log if key.startswith('width_')} for log in of_rank] for of_rank in logs]
    assert widths[0] == widths[1]
    assert [len(log) for log in widths[0]] == [1, 3, 3, 3]
    assert [log.get('width_narrowest') for log in widths[0]] == [None, 0.75, 0.5, 0.25]


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('name', ddp_worker.SCENARIOS)
def test_gradients_are_reduced_once_an_update(name, results):
    """The widths 1, 3, 3 and 3 of the four iterations are ten updates, or four if accumulated."""
    trained = sum(
        parameter.requires_grad for parameter in ddp_worker.make_model(*ddp_worker.SCENARIOS[name]).parameters()
    )
    updates = 4 if ddp_worker.SCENARIOS[name][3] == 'accumulate' else 10
    assert [result[name][2] for result in results] == [updates * trained] * PROCESSES


@pytest.mark.parametrize('name', ['mse', 'batch norm, mse, accumulate'])
def test_processes_see_different_images(name, results):
    """Else the tests above would hold for a wrapper that does nothing."""
    first, second = ([log['loss_widest'] for log in result[name][0]] for result in results)
    assert all(abs(a - b) > 1e-4 for a, b in zip(first, second))


def test_the_stock_wrapper_is_refused(results):
    for result in results:
        assert result['stock wrapper'].startswith('RuntimeError: US3L trains several widths')
        assert 'us3l_mm.US3LDistributedDataParallel' in result['stock wrapper']
