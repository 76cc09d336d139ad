"""What is looked up in a config: dicts, classes and the arguments that they take."""

import mmdet.models
import mmpretrain.models
import pytest
from mmengine.config import Config, ConfigDict

from us3l_mm.config import constructor_parameters, find_class, find_dicts, names_scope
from us3l_mm.models import SlimmableResNet


def test_every_dict_is_found_however_deep():
    config = dict(a=dict(b=[dict(c=1), (dict(d=dict(e=2)), 3)]), f='text')
    assert [sorted(part) for part in find_dicts(config)] == [['a', 'f'], ['b'], ['c'], ['d'], ['e']]


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain', None])
def test_a_name_with_scope_is_the_same_class_in_every_scope(scope):
    assert find_class('mmdet.ResNet', scope) is mmdet.models.ResNet
    assert find_class('us3l_mm.SlimmableResNet', scope) is SlimmableResNet


def test_a_name_without_scope_is_looked_up_in_the_default_scope():
    assert find_class('ResNet', 'mmdet') is mmdet.models.ResNet
    assert find_class('ResNet', 'mmpretrain') is mmpretrain.models.ResNet


def test_a_class_names_itself_and_an_unknown_name_nothing():
    assert find_class(SlimmableResNet, None) is SlimmableResNet
    assert find_class('ResNot', 'mmdet') is find_class(None, 'mmdet') is None


@pytest.mark.parametrize('kind', ['us3l_mm.SlimmableResNet', SlimmableResNet])
@pytest.mark.parametrize('config', [dict, ConfigDict])
def test_a_type_of_a_scope_is_found_by_name_and_as_a_class(kind, config):
    node = [config(type='mmdet.ResNet', stages=(config(type=kind),))]
    assert names_scope(node, 'us3l_mm') and names_scope(node, 'mmdet') and not names_scope(node, 'mmpretrain')


def test_a_scope_beside_a_type_counts():
    node = dict(pipeline=[dict(type='LoadImageFromFile', _scope_='us3l_mm')])
    assert names_scope(node, 'us3l_mm') and not names_scope(node, 'mmdet')


@pytest.mark.parametrize(
    'node',
    [
        dict(_scope_='us3l_mm'),  # of no type
        dict(type='ResNet', prefix='us3l_mm.'),  # text, but no type
        dict(type='us3l_mm'),  # a name of no scope
        dict(type='us3l_mmx.ResNet'),
        dict(type=None),
        dict(type=mmdet.models.ResNet),
        Config(dict(custom_imports=dict(imports=['us3l_mm.models']))).to_dict(),
        None,
    ],
)
def test_other_text_names_no_scope(node):
    assert not names_scope(node, 'us3l_mm')


class Base:
    def __init__(self, width, depth=18, *layers, **options):
        pass


class Closed(Base):
    def __init__(self, size):
        super().__init__(size)


class Open(Base):
    def __init__(self, size, depth=50, **kwargs):
        super().__init__(depth=depth, **kwargs)


class Silent(Open):
    pass


@pytest.mark.parametrize(
    ('cls', 'defaults'),
    [
        (Base, dict(width=..., depth=18)),
        (Closed, dict(size=...)),
        (Open, dict(width=..., depth=50, size=...)),
        (Silent, dict(width=..., depth=50, size=...)),
    ],
)
def test_arguments_that_kwargs_hand_on_are_those_of_the_base(cls, defaults):
    found = constructor_parameters(cls)
    assert {name: ... if p.default is p.empty else p.default for name, p in found.items()} == defaults


def test_a_slimmable_backbone_takes_what_the_stock_one_takes():
    assert constructor_parameters(SlimmableResNet).keys() > constructor_parameters(mmpretrain.models.ResNet).keys()
