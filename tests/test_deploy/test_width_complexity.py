"""Parameters and MACs, against sums over layers."""

import pytest
from mmengine.registry import MODELS
from torch import nn

from us3l_mm.deploy.costs import width_complexity
from us3l_mm.slim import to_dense


@pytest.mark.parametrize('width', [1.0, 0.5, 0.3])
def test_equals_a_count_by_hand(width):
    net = MODELS.build(dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16))
    got = width_complexity(net, width, (16, 16))
    dense = to_dense(net, width, with_statistics=False)
    convs = 0
    sizes = {'conv1': 16, 'layer1': 16, 'layer2': 8, 'layer3': 4, 'layer4': 2}  # output pixels a side
    for name, layer in dense.named_modules():
        if isinstance(layer, nn.Conv2d):
            convs += layer.weight.numel() * sizes[name.split('.')[0]] ** 2
    assert got['params'] == sum(parameter.numel() for parameter in dense.parameters())
    assert convs <= got['macs'] < 1.1 * convs  # mmengine also counts batch norm


@pytest.mark.slow
def test_published_cost_of_resnet50():
    """The paper's Table 6: its parameters count the classifier of 1000 classes; its 22.56M at 1.0 is no such sum."""
    net = MODELS.build(dict(type='us3l_mm.SlimmableResNet', depth=50))
    for width, features, params, macs in (
        (0.75, 1536, 14.77e6, 2.34e9),
        (0.5, 1024, 6.92e6, 1.06e9),
        (0.25, 512, 1.99e6, 0.28e9),
    ):
        got = width_complexity(net, width, (224, 224))
        assert abs(got['params'] + 1000 * features + 1000 - params) <= 0.005e6
        assert abs(got['macs'] - macs) <= 0.005e9
