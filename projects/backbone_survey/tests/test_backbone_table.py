"""The table of backbones: verdicts of key nets, of nets made to fail, and the page that holds them."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))
import backbone_table  # noqa: E402
from slimmability import check_slimmable  # noqa: E402

PAGE = PROJECT / 'README.md'
NO_CONV_CFG = ('refused', 'takes no conv_cfg')
KEY_NETS = {
    ('mmpretrain', 'ResNet'): ('works', ''),
    ('mmpretrain', 'RegNet'): ('works', ''),
    ('mmpretrain', 'ResNeXt'): ('works', ''),
    ('mmpretrain', 'VGG'): ('works', ''),
    ('mmpretrain', 'ConvNeXt'): NO_CONV_CFG,
    ('mmpretrain', 'PoolFormer'): NO_CONV_CFG,
    ('mmpretrain', 'MobileNetV3'): (
        'refused',
        'by use_width: 18 of its layers take their full number of channels only: layer1.se.conv1.conv (Conv2d), ...',
    ),
    ('mmpretrain', 'ShuffleNetV2'): ('not aligned', 'concatenates channels, shuffles channels'),
    ('mmpretrain', 'EfficientNet'): (
        'refused',
        'another net at width 1.0: conv_cfg replaces its Conv2dAdaptivePadding',
    ),
    ('mmdet', 'ResNet'): ('works', ''),
    ('mmdet', 'CSPDarknet'): ('not aligned', 'concatenates channels'),
}


@pytest.mark.parametrize('library, name', KEY_NETS)
def test_verdict_of_key_nets(library, name):
    assert backbone_table.check_stock(library, name) == KEY_NETS[library, name]


def test_verdict_of_our_classes():
    assert backbone_table.check_own(backbone_table.own_classes()['SEResNet']) == ('works', '')


class Toy(nn.Module):
    """Two branches of 32 channels, joined, then a convolution."""

    def __init__(self, slimmable, join=torch.add, joined=32, extra=None):
        super().__init__()
        conv, norm = (SlimmableConv2d, SlimmableBatchNorm2d) if slimmable else (nn.Conv2d, nn.BatchNorm2d)
        self.a, self.b, self.c = conv(3, 32, 1), conv(3, 32, 3, padding=1), conv(joined, 48, 1)
        self.norm = norm(joined)
        self.join = join
        self.extra = extra(slimmable) if extra else nn.Identity()

    def forward(self, x):
        return self.extra(self.c(self.norm(self.join(self.a(x), self.b(x)).relu())))


def verdict_of(**options):
    return check_slimmable(lambda: Toy(False, **options), lambda: Toy(True, **options), size=8)


def cat(a, b):
    return torch.cat([a, b], 1)


def interleave(a, b):
    return torch.stack([a, b], 2).flatten(1, 2)


def reverse(a, b):
    return (a + b).flip(1)


def fixed_split(a, b):
    return a.split(16, 1)[1] + b.split(16, 1)[1]


@pytest.mark.parametrize('join, joined', [(torch.add, 32), (interleave, 64)])
def test_net_whose_first_channels_stay_the_first_works(join, joined):
    assert verdict_of(join=join, joined=joined) == ('works', '')


@pytest.mark.parametrize('join, joined, why', [(cat, 64, 'concatenates channels'), (reverse, 32, '')])
def test_net_whose_channels_change_place_is_not_aligned(join, joined, why):
    assert verdict_of(join=join, joined=joined) == ('not aligned', why)


def test_net_that_reads_fixed_channels_is_refused_when_a_model_is_built():
    word, why = verdict_of(join=fixed_split, joined=16)
    assert word == 'refused' and why.startswith('when a model is built with it: ')


def test_plain_layer_is_refused_on_entering():
    word, why = verdict_of(extra=lambda slimmable: nn.Conv2d(48, 8, 1))
    assert word == 'refused' and why.startswith('by use_width: 1 of its layers')


def test_net_that_differs_at_full_width_is_refused():
    word, why = verdict_of(extra=lambda slimmable: nn.ReLU() if slimmable else nn.Identity())
    assert word == 'refused' and why.startswith('another net at width 1.0')


def test_other_keys_are_refused():
    extra = {True: nn.Identity, False: lambda: nn.BatchNorm2d(48)}
    assert verdict_of(extra=lambda slimmable: extra[slimmable]()) == (
        'refused',
        'other state-dict keys than the plain net',
    )


def rows(text):
    found = [tuple(cell.strip() for cell in line.split('|')[1:-1]) for line in text.splitlines() if line[:1] == '|']
    return {row[:2]: row for row in found if row[0] in ('mmpretrain', 'mmdet', 'us3l_mm')}


def test_page_has_what_the_script_prints(capsys):
    backbone_table.main(['--only', 'MobileNetV3', 'ShuffleNetV2', 'ConvNeXt', 'SlimmableMobileNetV3'])
    printed = rows(capsys.readouterr().out)
    assert len(printed) == 4
    page = rows(PAGE.read_text())
    assert {key: page[key] for key in printed} == printed
    assert {key: page[key][2:4] for key in KEY_NETS} == KEY_NETS


def test_page_has_every_backbone():
    page = rows(PAGE.read_text())
    for library in backbone_table.LIBRARIES:
        assert {name for other, name in page if other == library} == set(backbone_table.stock_classes(library))


def test_only_the_table_of_a_page_is_replaced(tmp_path, monkeypatch):
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{backbone_table.BEGIN}\nold\n{backbone_table.END}\nafter\n')
    monkeypatch.setattr(backbone_table, 'table', lambda only: ['| new |'])
    backbone_table.main(['--out', str(page)])
    assert page.read_text() == f'before\n{backbone_table.BEGIN}\n| new |\n{backbone_table.END}\nafter\n'


def test_unknown_name_is_refused():
    with pytest.raises(SystemExit, match='no backbone of the name ResNot'):
        backbone_table.main(['--only', 'ResNet', 'ResNot'])


def test_page_without_markers_and_part_of_a_table_are_refused(tmp_path, capsys):
    page = tmp_path / 'page.md'
    page.write_text('prose')
    with pytest.raises(SystemExit, match=re.escape(backbone_table.BEGIN)):
        backbone_table.main(['--out', str(page)])
    assert page.read_text() == 'prose'
    with pytest.raises(SystemExit):
        backbone_table.main(['--only', 'ResNet', '--out', str(page)])
    assert 'in place of the whole' in capsys.readouterr().err
