"""Two and four processes over gloo, against one process that has all images."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch
from mmengine.model import MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from builders import ROOT, load_script
from us3l_mm.models import NTXentLoss
from us3l_mm.models.losses import nt_xent

pytestmark = pytest.mark.slow

ddp_worker = load_script('ddp_worker')

SCENARIOS = ddp_worker.SCENARIOS
of_two = pytest.mark.parametrize('name', SCENARIOS)
of_all = pytest.mark.parametrize(
    ('name', 'processes'), [(name, 2) for name in SCENARIOS] + [(name, 4) for name in ddp_worker.OF_FOUR]
)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What each of two or four processes has at its end."""
    folder = tmp_path_factory.mktemp('ddp')
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, ddp_worker.__file__, str(folder)],
        env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return {
        count: [torch.load(folder / f'{rank}_of_{count}.pt', weights_only=True) for rank in range(count)]
        for count in (2, 4)
    }


def by_parts(module, count):
    """Make a module work on each part of the images separately."""
    forward = module.forward
    module.forward = lambda x: torch.cat([forward(part) for part in x.chunk(count)])


def in_one_process(name, processes):
    """The scenario on all images at once, in parts where batch norm or negatives are those of a part."""
    *scenario, options = (*SCENARIOS[name], {})[:5]
    parts = processes * options.get('micro_batches', 1)
    model = ddp_worker.make_model(*scenario, options | dict(micro_batches=1))
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and not getattr(module, 'sync', False):
            by_parts(module, parts)
        elif isinstance(module, NTXentLoss) and not module.gather:
            module.views = lambda preds, targets: [
                sum(nt_xent(p, t) for p, t in zip(pred.chunk(parts), target.chunk(parts))) / parts
                for pred, target in zip(preds, targets)
            ]
    return ddp_worker.train(model, model.train_step, ddp_worker.joint_views())


@pytest.mark.usefixtures('mmpretrain_scope')
@of_all
def test_processes_equal_one_on_the_joint_batch(name, processes, results):
    logs, expected = in_one_process(name, processes)
    ranks = [result[name] for result in results[processes]]
    for _, state, *_ in ranks:
        assert state.keys() == expected.keys()
        for key, parameter in state.items():
            error = (parameter - expected[key]).abs().max() / expected[key].abs().max().clamp(min=1e-6)
            assert error < 1e-6, f'{key}: relative error {error:.1e}'
    for iteration, log in enumerate(logs):
        mean = sum(rank_logs[iteration]['loss'] for rank_logs, *_ in ranks) / processes
        assert mean == pytest.approx(log['loss'], rel=1e-6)
        if name.startswith('nce'):  # a loss over the gathered batch is the same everywhere
            for rank_logs, *_ in ranks:
                assert rank_logs[iteration]['loss'] == pytest.approx(log['loss'], rel=1e-6)


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('name', [name for name in SCENARIOS if 'two parts' in name])
def test_micro_batches_equal_the_whole_batch(name):
    """Each normalised, and with negatives, by itself; one process, four parts."""
    *scenario, options = SCENARIOS[name]
    model = ddp_worker.make_model(*scenario, options | dict(micro_batches=4))
    logs, state = ddp_worker.train(model, model.train_step, ddp_worker.joint_views())
    expected_logs, expected = in_one_process(name, 2)
    assert [log['loss'] for log in logs] == pytest.approx([log['loss'] for log in expected_logs], rel=1e-6)
    for key, parameter in state.items():
        torch.testing.assert_close(parameter, expected[key], rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures('mmpretrain_scope')
def test_micro_batches_that_do_not_fit_are_refused(set_time):
    with pytest.raises(ValueError, match='micro_batches must be a whole number from 1, got 0'):
        ddp_worker.make_model(*SCENARIOS['nce'], dict(micro_batches=0))
    set_time(0, 1, 0, 1)
    for parts, message in (
        (3, 'micro_batches=3 must divide the images of each process, got 16'),
        (16, r'at least 2 images per process and micro batch, got 1'),
    ):
        model = ddp_worker.make_model(*SCENARIOS['nce'], dict(micro_batches=parts))
        with pytest.raises(ValueError, match=message):
            ddp_worker.train(model, model.train_step, ddp_worker.joint_views())


@of_all
def test_processes_hold_equal_weights(name, processes, results):
    first, *others = (result[name][1] for result in results[processes])
    assert {key.split('.')[0] for key in first} >= {'backbone', 'neck', 'distill_predictor'}
    for other in others:
        assert first.keys() == other.keys()
        assert not [key for key in first if not torch.equal(first[key], other[key])]


@of_two
def test_processes_draw_the_same_widths(name, results):
    logs = [result[name][0] for result in results[2]]
    widths = [[{key: log[key] for key in log if key.startswith('width_')} for log in of_rank] for of_rank in logs]
    assert widths[0] == widths[1]
    assert [len(log) for log in widths[0]] == [1, 3, 3, 3]
    assert [log.get('width_narrowest') for log in widths[0]] == [None, 0.75, 0.5, 0.25]


@pytest.mark.usefixtures('mmpretrain_scope')
@of_all
def test_gradients_are_reduced_once_an_update(name, processes, results):
    """The widths 1, 3, 3 and 3 of the four iterations are ten updates, or four if accumulated."""
    trained = sum(parameter.requires_grad for parameter in ddp_worker.make_model(*SCENARIOS[name]).parameters())
    updates = 4 if SCENARIOS[name][3] == 'accumulate' else 10
    assert [result[name][2] for result in results[processes]] == [updates * trained] * processes


@of_all
def test_negatives_are_gathered_once_for_each_loss_that_has_them(name, processes, results):
    """Both views and their targets at a time: once an iteration for the base loss, once for each narrower width."""
    base, distill, *_ = SCENARIOS[name]
    expected = 4 * (base == 'nce gathered') + 6 * (distill == 'nce gathered')
    assert [result[name][3] for result in results[processes]] == [expected] * processes


@of_two
def test_graphs_are_searched_for_the_heads_that_a_width_does_not_use(name, results):
    assert all(result[name][4] for result in results[2])


def test_other_models_are_trained_as_by_mmengines_wrapper(results):
    """Weights of both processes, after two updates by our wrapper and by mmengine's."""
    for result in results[2]:
        ours, stock = result['other model']
        assert ours.keys() == stock.keys()
        assert not [key for key in ours if not torch.equal(ours[key], stock[key])]


@pytest.mark.parametrize('name', ['mse', 'batch norm, mse, accumulate'])
def test_processes_see_different_images(name, results):
    """Else the tests above would hold for a wrapper that does nothing."""
    first, second = ([log['loss_widest'] for log in result[name][0]] for result in results[2])
    assert all(abs(a - b) > 1e-4 for a, b in zip(first, second))


@pytest.mark.parametrize('processes', [2, 4])
def test_synchronised_norm_of_uneven_batches_equals_one_norm(processes, results):
    expected = ddp_worker.normalise(ddp_worker.make_features())
    ranks = [result['uneven'] for result in results[processes]]
    for index in (0, 1):  # output and gradient of the input: rows of the joint ones
        torch.testing.assert_close(torch.cat([rank[index] for rank in ranks]), expected[index], rtol=1e-9, atol=1e-12)
    for index in (2, 3):  # those of the parameters add up
        torch.testing.assert_close(sum(rank[index] for rank in ranks), expected[index], rtol=1e-9, atol=1e-12)


def test_the_stock_wrapper_is_refused(results):
    for result in results[2]:
        assert result['stock wrapper'].startswith('RuntimeError: US3L trains several widths')
        assert 'us3l_mm.US3LDistributedDataParallel' in result['stock wrapper']


@pytest.mark.usefixtures('mmpretrain_scope')
def test_fully_sharded_training_is_refused_with_the_reason():
    """Its wrapper needs a GPU to be built; here its train_step runs without it."""
    model = ddp_worker.make_model(*SCENARIOS['mse'])
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    wrapper = Mock(side_effect=model, module=model, spec=['module'])
    with pytest.raises(RuntimeError, match='FSDP flattens weights'):
        MMFullyShardedDataParallel.train_step(wrapper, dict(inputs=ddp_worker.joint_views()[0]), optimizer)
