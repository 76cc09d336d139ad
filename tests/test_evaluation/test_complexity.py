"""Parameters and MACs, against sums over layers."""

import pytest
from mmengine.registry import MODELS
from torch import nn

from us3l_mm.evaluation import width_complexity
from us3l_mm.slim import to_dense


@pytest.mark.parametrize('width', [1.0, 0.5, 0.3])
def test_equals_a_count_by_hand(width):
    net = MODELS.build(dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16))
    got = width_complexity(net, width, 16)
    dense = to_dense(net, width, with_statistics=False)
    convs = 0
    sizes = {'conv1': 16, 'layer1': 16, 'layer2': 8, 'layer3': 4, 'layer4': 2}  # output pixels a side
    for name, layer in dense.named_modules():
        if isinstance(layer, nn.Conv2d):
            convs += layer.weight.numel() * sizes[name.split('.')[0]] ** 2
    assert got['params'] == sum(parameter.numel() for parameter in dense.parameters())
    assert convs <= got['macs'] < 1.1 * convs  # mmengine also counts batch norm


def test_published_macs_of_resnet50():
    """2.34 G, 1.06 G and 0.28 G at widths 0.75, 0.5 and 0.25, as the paper's Table 6 says."""
    net = MODELS.build(dict(type='us3l_mm.SlimmableResNet', depth=50))
    for width, macs in ((0.75, 2.34e9), (0.5, 1.06e9), (0.25, 0.28e9)):
        assert width_complexity(net, width, 224)['macs'] == pytest.approx(macs, rel=0.05)
