"""Costs of plain nets, against counts by hand and an injected clock."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.functional import linear

from us3l_mm.deploy.costs import (
    activation_memory,
    detector_costs,
    measure_latency,
    net_latency,
    plain_costs,
    width_complexity,
)
from us3l_mm.slim import to_dense


class Clock:
    """Time that passes only in :meth:`work`."""

    def __init__(self, durations):
        self.now, self.durations, self.calls = 0.0, iter(durations), []

    def work(self):
        self.calls.append('run')
        self.now += next(self.durations)

    def __call__(self):
        return self.now


def test_latency_is_the_median_and_deciles_without_the_warmup():
    clock = Clock([100.0, 50.0, *[i / 1000 for i in range(1, 12)]])  # 2 slow ones, then 1 ms to 11 ms
    got = measure_latency(clock.work, warmup=2, repeats=11, clock=clock)
    assert got == pytest.approx(dict(latency_ms=6.0, latency_p10_ms=2.0, latency_p90_ms=10.0))
    assert len(clock.calls) == 13


def test_latency_waits_for_the_device_inside_the_measured_time():
    clock = Clock([0.001] * 3)

    def wait():
        clock.calls.append('wait')
        clock.now += 0.004

    got = measure_latency(clock.work, warmup=1, repeats=2, synchronize=wait, clock=clock)
    assert got['latency_ms'] == pytest.approx(5.0)
    assert clock.calls == ['run', 'wait', 'run', 'wait', 'run', 'wait']


@pytest.mark.parametrize(('warmup', 'repeats', 'message'), [(-1, 1, 'warmup .* from 0'), (0, 0, 'repeats .* from 1')])
def test_latency_of_nothing_is_refused(warmup, repeats, message):
    with pytest.raises(ValueError, match=message):
        measure_latency(lambda: None, warmup, repeats)


def test_net_is_measured_in_evaluation_mode_without_gradient():
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            seen.append((tuple(x.shape), self.training, torch.is_grad_enabled()))

    got = net_latency(Net(), (4, 6), batch=2, warmup=1, repeats=2)
    assert seen == [((2, 3, 4, 6), False, False)] * 3
    assert 0 <= got['latency_p10_ms'] <= got['latency_ms'] <= got['latency_p90_ms']


class Branches(nn.Module):
    """Residual block of 8 channels, whose input has to wait for the sum."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        x = self.a(x)
        return x + self.c(self.b(x).relu_())


class Head(nn.Module):
    """Views take no memory: neither of weights nor of activations."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(50, 7))

    def forward(self, x):
        x = x.mean((2, 3)).view(x.size(0), 1, 3).flatten(1)
        return linear(x, self.weight[:, :3])


@pytest.mark.parametrize(
    ('net', 'values'),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True)), 3 * 40 + 8 * 40),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), 3 * 40 + 2 * 8 * 40),
        # Images, the block's input, 16 and 8 channels; later two of 8 and the sum.
        (Branches(), (3 + 8 + 16 + 8) * 40),
        (Head(), 3 * 40 + 3 + 50),
    ],
)
def test_activation_memory_equals_a_count_by_hand(net, values):
    assert activation_memory(net, (5, 8)) == 4 * values
    assert activation_memory(net, (5, 8), batch=3) == 3 * 4 * values
    assert next(net.parameters()).device.type == 'cpu'


def test_costs_equal_a_count_by_hand():
    got = plain_costs(Branches().eval(), (5, 8))
    assert got['params'] == 3 * 8 + 8 + 8 * 16 + 16 + 16 * 8 + 8
    assert got['macs'] == (3 * 8 + 8 * 16 + 16 * 8) * 40
    assert got['activation_bytes'] == 4 * 35 * 40


def test_costs_are_counted_on_the_device_and_in_the_type_of_the_net():
    """A GPU is stood in for by float64: an image of another type raises, too."""
    net = MODELS.build(dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=8, base_channels=8))
    expected = width_complexity(net, 0.5, (16, 16))
    assert width_complexity(net.double(), 0.5, (16, 16)) == expected
    assert plain_costs(to_dense(net, 0.5, with_statistics=False).eval(), (16, 16))['macs'] == expected['macs']


@pytest.mark.parametrize('roi_head', ['StandardRoIHead', 'CascadeRoIHead'])
def test_box_heads_of_all_stages_are_counted(roi_head):
    def head(channels):
        return nn.Sequential(nn.Flatten(), nn.Linear(4 * 7 * 7, channels))

    stages = [head(10), head(6), head(2)] if roi_head == 'CascadeRoIHead' else [head(10)]
    extractor = SimpleNamespace(out_channels=4, roi_layers=[SimpleNamespace(output_size=(7, 7))])

    class RoIHead(nn.Module):
        with_shared_head = False

        def __init__(self):
            super().__init__()
            self.bbox_head = nn.ModuleList(stages) if len(stages) > 1 else stages[0]
            self.bbox_roi_extractor = extractor

    class Detector(nn.Module):
        test_cfg = SimpleNamespace(rpn=SimpleNamespace(max_per_img=100))

        def __init__(self):
            super().__init__()
            self.rpn_head = nn.Conv2d(3, 5, 1)
            self.roi_head = RoIHead()

        def extract_feat(self, images):
            return images

    found = detector_costs(Detector(), (8, 6))
    assert found['macs'] == 3 * 5 * 8 * 6 + 100 * sum(4 * 49 * stage[1].out_features for stage in stages)
