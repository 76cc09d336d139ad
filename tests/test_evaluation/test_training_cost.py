"""Counts of a training against a loop over its sampler, and its cost in T against the paper's."""

import json

import pytest
from torch import nn

from builders import TinyResNet
from us3l_mm.deploy.costs import width_complexity
from us3l_mm.evaluation.training_cost import TrainingCost, cost_report, cost_table, cost_text, forward_macs
from us3l_mm.slim import WidthSampler


def run(sampler, epochs, iterations=5, images=8, cost=None, part=None):
    """Tell the passes of a training to a count, without training; an iteration of k widths takes k seconds."""
    cost = cost or TrainingCost()
    for iteration in part or range(epochs * iterations):
        epoch = iteration // iterations
        cost.start_iteration(sampler.stage(epoch, epochs), sampler.width_range[1])
        widths = sampler(iteration, epoch, epochs)
        for index, width in enumerate(widths):
            if index == 0:
                cost.add_seconds(cost.add('teacher', 1.0, images), 0.25)
            cost.add_seconds(cost.add('student', width, images), 0.75)
        cost.end_iteration(float(len(widths)))
    return cost


@pytest.mark.parametrize(
    'sampler, epochs, passes',
    [
        (WidthSampler(), 400, 2.5),  # what the paper counts
        (WidthSampler(dynamic=False, num_widths=4), 8, 4),  # US-Net
        (WidthSampler(widths=[1.0], dynamic=False), 4, 1),  # a network of one width
        (WidthSampler(widths=[1.0, 0.5], dynamic=False, slow_start=0.5), 4, 1.5),
    ],
)
def test_cost_in_passes_is_that_of_the_paper(sampler, epochs, passes):
    report = cost_report(run(sampler, epochs).state, lambda width: None)
    assert report['passes_T'] == passes
    full = sampler.dynamic or sampler.slow_start or sampler.widths == [1.0]  # some iterations train that alone
    assert report['full_width_iteration_s'] == (1.0 if full else None)
    assert report['wall_clock_T'] == (passes if full else None)


def test_counts_equal_a_loop_over_the_sampler():
    sampler, epochs, iterations, images = WidthSampler(width_step=0.125), 8, 5, 8
    report = cost_report(run(sampler, epochs, iterations, images).state, lambda width: int(1000 * width))
    drawn = []
    for epoch in range(epochs):
        for iteration in range(epoch * iterations, (epoch + 1) * iterations):
            drawn += [(4 * epoch // epochs, width) for width in sampler(iteration, epoch, epochs)]
    students = [row for row in report['rows'] if row['role'] == 'student']
    assert {(row['stage'], row['width']): row['forward'] for row in students} == {
        key: drawn.count(key) for key in set(drawn)
    }
    for row in students:
        assert row['backward'] == row['forward'] and row['images'] == images * row['forward']
        assert row['macs'] == 3 * row['images'] * int(1000 * row['width'])
        assert row['seconds'] == 0.75 * row['forward']
    teachers = [row for row in report['rows'] if row['role'] == 'teacher']
    assert [row['stage'] for row in teachers] == [0, 1, 2, 3]
    for row in teachers:
        assert (row['forward'], row['backward'], row['macs']) == (10, 0, 80 * 1000)
    assert report['iterations'] == 40 and report['seconds'] == len(drawn)


def test_count_goes_on_after_a_checkpoint():
    sampler = WidthSampler()
    text = json.dumps(run(sampler, 4, part=range(13)).saved())
    resumed = run(sampler, 4, cost=TrainingCost(json.loads(text)), part=range(13, 20))
    assert resumed.state == run(sampler, 4).state


def test_micro_batches_and_unknown_macs():
    cost = TrainingCost()
    cost.start_iteration(0, 1.0)
    for width in (1.0, 1.0, 0.5, 0.5):  # two micro batches of each width
        cost.add('student', width, 4)
    cost.end_iteration(1.0)
    report = cost_report(cost.state, lambda width: None)
    assert report['passes_T'] == 2
    assert [row['forward'] for row in report['rows']] == [2, 2]
    assert [row['macs'] for row in report['rows']] == [None, None]
    assert '| 0 | student | 1 to 0.5 | 4 | 4 | 16 | – |' in cost_table(report)
    assert cost_text(report).startswith('2 T by passes, unknown by the clock')
    assert cost_report(TrainingCost().state, lambda width: None)['passes_T'] is None


def test_macs_of_slimmable_and_plain_networks():
    net = TinyResNet()
    assert forward_macs(net, 0.5, (16, 16)) == width_complexity(net, 0.5, (16, 16))['macs']
    assert forward_macs(nn.Conv2d(3, 4, 3, padding=1), 1.0, (8, 6)) == 3 * 4 * 9 * 8 * 6
