"""Weights found in a checkpoint by keys and shapes, and which prefix is taken."""

import argparse
import copy
import random
import sys

import pytest
import torch
from mmengine.runner import CheckpointLoader
from torch import nn

from us3l_mm.utils.match_checkpoint import match_checkpoint, weights_of


def net(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Linear(width, 2))


class Model(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        self.backbone, self.neck = net(seed), nn.Linear(2, 2)


def under(prefix, module):
    return {prefix + key: value for key, value in module.state_dict().items()}


def same(state, module):
    return all(torch.equal(state[key], value) for key, value in module.state_dict().items())


@pytest.fixture
def lines(monkeypatch):
    found = []
    monkeypatch.setattr('us3l_mm.utils.match_checkpoint.print_log', lambda text, logger: found.append(text))
    return found


def test_one_line_tells_file_prefix_and_counts(lines):
    state = {**under('module.', net()), 'module.fc.weight': torch.ones(1), 'other': torch.ones(1)}
    del state['module.2.bias']
    match = match_checkpoint(dict(state_dict=state), net(1), 'a.pth')
    assert lines == [
        "a.pth, prefix 'module.': 8 of 9 tensors of Sequential; missing: 1 (2.bias); unexpected: 1 (fc.weight); "
        'under other prefixes: 1'
    ]
    assert match.prefix == 'module.' and match.missing == ['2.bias'] and match.unexpected == ['fc.weight']


def test_keys_of_the_module_itself_are_left_as_they_are():
    state = net().state_dict()  # with torch's metadata, which lists the versions of its layers
    assert match_checkpoint(dict(state_dict=state), net(1), 'a').state is state
    assert match_checkpoint(state, net(1), 'a').state is state


@pytest.mark.parametrize('seed', range(30))
def test_the_prefix_with_most_tensors_wins(seed):
    """Against a count of whole sub-states, prefix by prefix."""
    draw = random.Random(seed)
    own = net().state_dict()
    prefixes = ['', 'a.', 'a.b.', 'model.x.', 'module.0.', 'q.1.']
    state = {}
    for prefix in draw.sample(prefixes, 4):
        kept = draw.sample(list(own), draw.randint(5, len(own)))
        state |= {prefix + key: own[key] if draw.random() < 0.8 else torch.ones(7, 7) for key in kept}
    fits = {p: sum(p + key in state and state[p + key].shape == own[key].shape for key in own) for p in prefixes}
    best = [prefix for prefix in prefixes if fits[prefix] == max(fits.values())]
    assert 2 * max(fits.values()) >= len(own)  # with less, keys would count alone
    if len(best) > 1 and '' not in best:
        with pytest.raises(RuntimeError, match='9 keys of Sequential [2-4] times'):
            match_checkpoint(state, net(), 'a')
    else:
        assert match_checkpoint(state, net(), 'a').prefix == ('' if '' in best else best[0])


def test_shapes_tell_two_nets_of_the_same_keys_apart():
    state = {**under('wide.', net(width=8)), **under('narrow.', net(width=4))}
    assert match_checkpoint(state, net(width=8), 'a').prefix == 'wide.'
    assert match_checkpoint(state, net(width=4), 'a').prefix == 'narrow.'


@pytest.mark.parametrize(
    'first, second, taken',
    [
        ('student.module.', 'teacher.', 'teacher.'),
        ('module.encoder_k.', 'module.encoder_q.', 'module.encoder_q.'),
        ('teacher.backbone.', 'backbone.', 'backbone.'),
        ('target_net.module.0.', 'backbone.', 'backbone.'),
        ('model.', '', ''),
    ],
)
def test_of_two_copies_the_one_that_is_evaluated_is_taken_and_the_other_told(first, second, taken, lines):
    state = {**under(first, net(1)), **under(second, net(2))}
    assert match_checkpoint(state, net(), 'a').prefix == taken
    assert f"prefix '{taken}' (others: '{first}')" in lines[0]
    state = {**under(second, net(2)), **under(first, net(1))}  # the order does not matter
    assert same(match_checkpoint(state, net(), 'a').state, net(2))


@pytest.mark.parametrize('lost', ['weight', 'running_mean', 'num_batches_tracked'])
def test_a_copy_that_lacks_a_tensor_is_not_replaced_by_the_teachers(lost):
    layers = nn.Sequential(*(net(i) for i in range(3)))
    state = {**under('backbone.', layers), **under('teacher.backbone.', layers)}
    del state[f'backbone.1.1.{lost}']
    match = match_checkpoint(state, layers, 'a')
    assert match.prefix == 'backbone.' and match.missing == [f'1.1.{lost}']
    model = Model()
    model.backbone, model.teacher = layers, nn.ModuleDict(dict(backbone=copy.deepcopy(layers)))
    match = match_checkpoint(state, model, 'a')
    assert match.prefix == '' and f'backbone.1.1.{lost}' in match.missing


def test_a_teacher_that_is_a_larger_net_is_found_behind_a_student_that_is_its_beginning():
    deep = nn.Sequential(*(net(i) for i in range(3)))
    state = {**under('backbone.', deep[:2]), **under('teacher.backbone.', deep)}
    assert match_checkpoint(state, deep, 'a').prefix == 'teacher.backbone.'
    assert match_checkpoint(state, deep[:2], 'a').prefix == 'backbone.'


def test_what_mmengine_averages_does_not_stand_in_for_a_lost_state_dict():
    with pytest.raises(RuntimeError, match='none of the 9 keys'):
        match_checkpoint(dict(meta={}, ema_state_dict=under('module.', net())), net(), 'a')


def test_copies_that_nothing_tells_apart_must_be_named():
    nested = dict(model=net(1).state_dict(), model_ema=under('module.', net(2)), epoch=3)
    with pytest.raises(RuntimeError) as raised:
        match_checkpoint(nested, net(), 'a.pth')
    for part in (
        'a.pth',
        '2 times',
        "'model.'",
        "'model_ema.module.'",
        '`prefix` in the init_cfg',
        '--prefix of `us3l calibrate`',
    ):
        assert part in str(raised.value)
    for name in ('model_ema.module.', 'model_ema.module', 'module'):  # whole, without its dot, its end
        assert same(match_checkpoint(nested, net(), 'a', name).state, net(2))
    assert same(match_checkpoint(nested, net(), 'a', 'model').state, net(1))
    with pytest.raises(RuntimeError, match="starts with 'ema', see init_cfg; the 9 keys of Sequential stand behind"):
        match_checkpoint(nested, net(), 'a', 'ema')


def test_nothing_for_the_module_is_an_error():
    for state in ({}, {'x': torch.ones(1)}, dict(teacher={'x': torch.ones(1)})):
        with pytest.raises(RuntimeError, match='a.pth has none of the 9 keys of Sequential'):
            match_checkpoint(state, net(), 'a.pth')


def test_a_backbone_alone_goes_to_the_backbone_of_a_model():
    for state in (under('', net(1)), under('encoder.', net(1))):
        match = match_checkpoint(state, Model(), 'a')
        assert {f'backbone.{key}' for key in net().state_dict()} == match.state.keys()
        assert match.missing == ['neck.weight', 'neck.bias']


def test_a_whole_model_is_found_with_all_its_parts():
    for prefix in ('', 'module.', 'model.'):
        match = match_checkpoint(under(prefix, Model(1)), Model(), 'a')
        assert match.prefix == prefix and not match.missing and not match.unexpected


def test_the_teacher_of_dino_goes_to_the_backbone_not_to_the_teacher_of_us3l():
    model = Model()
    model.teacher = Model(2)
    file = dict(teacher=under('backbone.', net(1)), student=under('module.backbone.', net(3)))
    match = match_checkpoint(file, model, 'a')
    assert same({key.removeprefix('backbone.'): value for key, value in match.state.items()}, net(1))


def test_state_dicts_of_a_file_are_those_of_weights_alone():
    trained = net()
    optimizer = torch.optim.Adam(trained.parameters())
    trained[2](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert optimizer.state_dict()['state']
    file = dict(net=dict(state_dict=net(1).state_dict()), optimizer=optimizer.state_dict(), epoch=1, args=None)
    assert weights_of(file).keys() == under('net.', net()).keys()
    assert weights_of(dict(file, state_dict=net().state_dict())).keys() == net().state_dict().keys()


def test_a_file_of_safetensors_loads_or_names_what_it_needs(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    path = tmp_path / 'net.safetensors'
    save_file(net(1).state_dict(), path)
    loaded = CheckpointLoader.load_checkpoint(str(path))
    assert same(loaded, net(1)) and loaded.keys() == net().state_dict().keys()
    assert CheckpointLoader.load_checkpoint(str(path), map_location='meta')['2.bias'].is_meta
    (tmp_path / 'cut.safetensors').write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=r'cannot load checkpoint .*cut\.safetensors \(\d+ bytes\)'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'cut.safetensors'))
    save_file({'2.bias': torch.tensor([1, torch.nan])}, path)
    with pytest.raises(RuntimeError, match='NaN in 1 of 2 values of 2.bias'):
        CheckpointLoader.load_checkpoint(str(path))
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match=r'net\.safetensors needs the package .*pip install safetensors'):
        CheckpointLoader.load_checkpoint(str(path))


def test_nested_weights_are_checked_for_nan(tmp_path):
    state = {**net().state_dict(), '2.bias': torch.tensor([1, torch.nan])}
    torch.save(dict(teacher=state, args=argparse.Namespace(lr=0.1)), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match='a.pth cannot be used.*NaN in 1 of 2 values of teacher.2.bias'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
