"""The hook measures what trains, and the training does not notice."""

import copy
import json
import math
import random
import shutil

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from builders import ABLATIONS, make_us3l, make_views
from us3l_mm.engine import ResumableRunner
from us3l_mm.evaluation import TemporalConsistencyHook
from us3l_mm.evaluation.temporal_record import FILE, group_runs, read_run, says
from us3l_mm.evaluation.width_embeddings import check_guided, guidance, probe_views, undisturbed
from us3l_mm.models.multi_width import MicroBatch
from us3l_mm.slim import use_width

WIDTHS = (1.0, 0.5, 0.25)
TRACKED = dict(type='BN1d')  # heads with buffers, which an embedding must leave as they are


class RandomViews(Dataset):
    """Two views that depend on the random state of torch, NumPy and Python."""

    def __getitem__(self, index):
        noise = torch.randn(2, 3, 8, 8, dtype=torch.float64) * np.random.rand() + random.random()
        return dict(inputs=list(noise + index))

    def __len__(self):
        return 16


class Keep(Hook):
    """Keeps the model before and after an iteration."""

    def __init__(self, iteration):
        self.iteration, self.kept = iteration, []

    def before_train_iter(self, runner, *_, **__):
        if runner.iter == self.iteration:
            self.kept.append(copy.deepcopy(runner.model))

    after_train_iter = before_train_iter


def make(case, **options):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return make_us3l(ABLATIONS[case], norm_cfg=TRACKED, **options)


def train(work_dir, hook, keep=None, **options):
    runner = ResumableRunner(
        make(13, sampler=dict(dynamic=False)),
        str(work_dir),
        train_dataloader=dict(
            dataset=RandomViews(),
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        custom_hooks=[dict(type='us3l_mm.TemporalConsistencyHook', **hook)] if hook else [],
        randomness=dict(seed=3),
        experiment_name=work_dir.name,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        **options,
    )
    if keep is not None:
        runner.register_hook(keep)
    return runner.train().state_dict()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Work dir of a run with the hook, its weights, and the model around the iteration of its second measurement."""
    folder, keep = tmp_path_factory.mktemp('temporal') / 'run', Keep(3)
    weights = train(folder, dict(interval=3, widths=WIDTHS, num_images=5), keep=keep)
    return folder, weights, keep.kept


@pytest.mark.parametrize('case', ABLATIONS)
def test_guidance_has_the_loss_and_the_targets_of_the_training(case):
    model, views = make(case), make_views(1)[0]
    found = guidance(model, views, WIDTHS)
    batch = MicroBatch(views)
    for width in WIDTHS:
        with use_width(model.backbone, width):
            trained = model.loss(views, None, **model.loss_arguments(batch, width))
        batch.widest = trained['outputs'] if batch.widest is None else batch.widest
        distils = width < 1 and model.distill_loss is not None
        loss = model.distill_loss if distils else model.head.loss_module
        assert found[width].loss == ABLATIONS[case][1 if distils else 0]
        pairs = [loss(output, target) for output, target in found[width].pairs]
        torch.testing.assert_close(sum(pairs) / 2, trained['loss'].detach())


def test_numbers_are_those_of_the_weights_around_the_iteration(trained):
    folder, _, (before, after) = trained
    point = read_run(folder)['points'][1]
    assert point['iteration'] == 4 and [row['width'] for row in point['rows']] == list(WIDTHS)
    views = probe_views(RandomViews(), torch.utils.data.default_collate, before.data_preprocessor, 5)
    with torch.no_grad():
        targets = [torch.cat([m.teacher(view) for view in views[::-1]]) for m in (before, after)]
    old, new = (target / target.norm(dim=1, keepdim=True) for target in targets)
    expected = math.sqrt((new - old).square().sum(dim=1).mean())
    assert expected > 1e-4
    for row in point['rows']:
        assert row['target'] == pytest.approx(expected, rel=1e-6)
        assert row['own'] == row['nce' if row['width'] == 1 else 'target']


def test_training_does_not_notice(trained, tmp_path):
    _, measured, _ = trained
    plain = train(tmp_path / 'plain', None)
    assert plain.keys() == measured.keys() and any('running_mean' in key for key in plain)
    for key in plain:
        assert torch.equal(plain[key], measured[key]), key


def test_resumed_run_writes_the_same_file(trained, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('epoch_1.pth', FILE):  # that has measurements after the checkpoint, which are made again
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(trained[0] / name, folder / name)
    train(folder, dict(interval=3, widths=WIDTHS, num_images=5), resume=True)
    assert read_run(folder) == read_run(trained[0])


def test_log_has_the_changes_by_width(trained):
    (log,) = trained[0].glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [line for line in lines if 'temporal/target_w0.5' in line]
    points = read_run(trained[0])['points']
    assert [line['step'] for line in lines] == [point['iteration'] for point in points] == [1, 4, 7]
    for line, point in zip(lines, points):
        for row in point['rows']:
            assert line[f'temporal/target_w{row["width"]:g}'] == row['target']
            assert line[f'temporal/gradient_w{row["width"]:g}'] == row['own']


def test_random_states_and_buffers_are_put_back():
    model = make(13)
    before = copy.deepcopy(model.state_dict())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with pytest.raises(KeyError), undisturbed(model):
        guidance(model, make_views(1)[0], [1.0])
        random.random(), np.random.rand(), torch.rand(1)
        raise KeyError
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r'of type us3l_mm.US3L, got Linear'):
        check_guided(torch.nn.Linear(2, 2), [1.0])
    model = make(13, sampler=dict(width_range=(0.5, 1.0)))
    with pytest.raises(ValueError, match=r'widths must be in \[0.5, 1\], the width_range of the sampler, got \[0.25\]'):
        check_guided(model, [1.0, 0.25])
    model.distill_loss = torch.nn.L1Loss()
    with pytest.raises(TypeError, match=r'CosineSimilarityLoss \(MSE\) and us3l_mm.NTXentLoss, got L1Loss'):
        check_guided(model, [1.0])
    with pytest.raises(ValueError, match='num_images must be at most the 16 images of the data set, got 17'):
        probe_views(RandomViews(), list, torch.nn.Identity(), 17)
    with pytest.raises(ValueError, match='num_images must be a whole number from 2'):
        TemporalConsistencyHook(num_images=1)
    with pytest.raises(FileNotFoundError, match=r'default_hooks.temporal.type=us3l_mm.TemporalConsistencyHook'):
        read_run(tmp_path)


def test_runs_of_one_name_are_averaged(trained):
    run = read_run(trained[0])
    other = copy.deepcopy(run)
    for point in other['points']:
        for row in point['rows']:
            row.update(own=row['own'] + 0.2)
    (single,), (group,) = group_runs([run]), group_runs([run, other])
    assert (single['runs'], group['runs'], single['rows'][0]['std']) == (1, 2, {})
    for alone, row in zip(single['rows'], group['rows']):
        values = [each['own'] for point in run['points'] for each in point['rows'] if each['width'] == row['width']]
        assert alone['own'] == pytest.approx(sum(values) / len(values))
        assert row['own'] == pytest.approx(alone['own'] + 0.1)
        assert row['std']['own'] == pytest.approx(0.2 / math.sqrt(2)) and row['std']['target'] == 0
    assert group['iterations'] == [1, 4, 7]
    unfinished = dict(run, name='unfinished', points=run['points'][:2])
    assert [each['iterations'] for each in group_runs([run, unfinished])] == [[1, 4]] * 2
    text = says(group_runs([dict(other, name='worse'), dict(run, name='better')]))
    assert text.index('better', text.index('gradient')) < text.index('worse', text.index('gradient'))
    with pytest.raises(ValueError, match='runs named run train differently'):
        group_runs([run, dict(run, what='else')])
    with pytest.raises(ValueError, match='no iteration in common'):
        group_runs([run, dict(run, points=[])])


def test_model_description(trained):
    assert read_run(trained[0])['what'] == 'InfoNCE base, MSE distillation, head, target momentum / momentum'
