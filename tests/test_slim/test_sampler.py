"""Which widths an iteration trains, against the formulas in exact fractions."""

import random
import signal
from fractions import Fraction

import numpy as np
import pytest
import torch

from us3l_mm.slim import WidthSampler


def lowest_by_hand(epoch, epochs, stages, w_min, w_max):
    """lo(s) = w_max - s / (S - 1) * (w_max - w_min), s the last stage whose start s / S * E lies not behind epoch."""
    stage = max(s for s in range(stages) if Fraction(s * epochs, stages) <= epoch)
    w_min, w_max = Fraction(str(w_min)), Fraction(str(w_max))
    return w_max - Fraction(stage, stages - 1) * (w_max - w_min)


@pytest.mark.parametrize('epochs', [1, 2, 3, 4, 5, 7, 10, 11, 60, 100, 400])
@pytest.mark.parametrize('stages', [2, 3, 4, 5])
@pytest.mark.parametrize('width_range', [(0.25, 1.0), (0.5, 1.0), (0.3, 0.8)])
def test_lowest_width_falls_stage_by_stage(epochs, stages, width_range):
    sampler = WidthSampler(width_range, num_stages=stages)
    for epoch in range(epochs):
        expected = lowest_by_hand(epoch, epochs, stages, *width_range)
        assert sampler.lowest(epoch, epochs) == pytest.approx(float(expected), abs=1e-12), epoch


def test_stage_edges_of_the_published_recipe():
    sampler = WidthSampler()
    edges = {0: 1.0, 99: 1.0, 100: 0.75, 199: 0.75, 200: 0.5, 299: 0.5, 300: 0.25, 399: 0.25}
    assert {epoch: sampler.lowest(epoch, 400) for epoch in edges} == edges


def test_last_stage_reaches_exactly_the_lowest_width():
    lowest = [0.05 * n for n in range(1, 21)] + [n / 10 for n in range(1, 11)]
    reached = [WidthSampler((w_min, 1.0)).lowest(3, 4) for w_min in lowest]
    assert reached == lowest


def test_first_stage_trains_the_full_width_only():
    sampler = WidthSampler()
    assert [sampler(i, i // 10, 40) for i in range(100)] == [[1.0]] * 100
    assert sampler(0, 0, 1) == [1.0]


def test_without_dynamic_sampling_the_lowest_width_is_there_from_the_start():
    sampler = WidthSampler(dynamic=False)
    for epoch in range(8):
        widths = sampler(epoch, epoch, 8)
        assert (widths[0], widths[-1], len(widths)) == (1.0, 0.25, 3)


@pytest.mark.parametrize('num_widths', [2, 3, 5])
def test_sandwich_has_both_ends_and_distinct_sorted_widths(num_widths):
    sampler = WidthSampler(num_widths=num_widths, seed=3)
    for iteration in range(200):
        epoch = 100 + iteration
        widths = sampler(iteration, epoch, 400)
        assert len(set(widths)) == num_widths
        assert widths == sorted(widths, reverse=True)
        assert widths[0] == 1.0 and widths[-1] == sampler.lowest(epoch, 400)


@pytest.mark.parametrize('dynamic', [True, False])
def test_without_sandwich_all_widths_are_drawn(dynamic):
    sampler = WidthSampler(dynamic=dynamic, sandwich=False, seed=3)
    epoch = 250  # lowest 0.5 with dynamic sampling
    low = 0.5 if dynamic else 0.25
    drawn = [sampler(iteration, epoch, 400) for iteration in range(300)]
    assert all(len(set(widths)) == 3 and widths == sorted(widths, reverse=True) for widths in drawn)
    everything = [width for widths in drawn for width in widths]
    assert low <= min(everything) < max(everything) <= 1.0
    assert 1.0 not in everything and low not in everything
    assert abs(np.mean(everything) - (1 + low) / 2) < 0.03


def test_widths_between_are_uniform():
    sampler = WidthSampler(dynamic=False)
    middle = np.array([sampler(iteration, 0, 1)[1] for iteration in range(3000)])
    counts, _ = np.histogram(middle, bins=5, range=(0.25, 1.0))
    assert counts.sum() == 3000
    assert np.abs(counts - 600).max() < 5 * (3000 * 0.2 * 0.8) ** 0.5


@pytest.mark.parametrize('sandwich', [True, False])
@pytest.mark.parametrize('epoch, low', [(100, 0.75), (200, 0.5), (399, 0.25)])
def test_width_step_draws_from_a_grid_all_of_it_alike(epoch, low, sandwich):
    sampler = WidthSampler(width_step=0.05, sandwich=sandwich)
    grid = [round(1 - 0.05 * k, 2) for k in range(round((1 - low) / 0.05) + 1)]
    draws = [sampler(iteration, epoch, 400) for iteration in range(2000)]
    assert all(len(set(widths)) == 3 and set(widths) <= set(grid) for widths in draws)
    if sandwich:
        assert all((widths[0], widths[-1]) == (1.0, low) for widths in draws)
        draws, grid = [widths[1:-1] for widths in draws], grid[1:-1]
    counts = np.array([sum(width in widths for widths in draws) for width in grid])
    share = len(draws[0]) / len(grid)
    assert np.abs(counts - 2000 * share).max() < 5 * (2000 * share * (1 - share)) ** 0.5 + 1e-9


def test_width_step_that_meets_the_lowest_width_from_above_keeps_it():
    """0.3 is no multiple of 0.25 below 1.0: it is trained all the same, and so are 0.75 and 0.5."""
    sampler = WidthSampler((0.3, 1.0), dynamic=False, width_step=0.25)
    seen = {width for iteration in range(50) for width in sampler(iteration, 0, 1)}
    assert seen == {1.0, 0.75, 0.5, 0.3}


def test_one_width_without_sandwich():
    widths = WidthSampler(num_widths=1, dynamic=False, sandwich=False)(5, 0, 1)
    assert len(widths) == 1 and 0.25 <= widths[0] <= 1.0


def test_range_of_one_width():
    assert WidthSampler((0.5, 0.5))(10, 9, 10) == [0.5]


def test_draw_depends_on_seed_and_iteration_alone():
    sampler = WidthSampler(seed=11)
    forth = [sampler(iteration, 300, 400) for iteration in range(50)]
    for seed in (0, 1):  # a resumed run: another object, in another state, asked in another order
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        resumed = WidthSampler(seed=11)
        assert [resumed(iteration, 300, 400) for iteration in reversed(range(50))] == forth[::-1]


def test_draw_leaves_global_random_state_alone():
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    WidthSampler()(3, 3, 4)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert (np.random.get_state()[1] == before[2]).all()


def test_other_seeds_and_iterations_draw_other_widths():
    draws = [WidthSampler(seed=seed)(iteration, 3, 4)[1] for seed in range(10) for iteration in range(10)]
    assert len(set(draws)) == 100


def test_fixed_list_is_trained_whole_from_widest_to_narrowest():
    sampler = WidthSampler(widths=(0.5, 1.0, 0.25, 0.75), dynamic=False)
    assert [sampler(iteration, iteration, 8) for iteration in range(8)] == [[1.0, 0.75, 0.5, 0.25]] * 8


def test_dynamic_sampling_adds_the_listed_widths_stage_by_stage():
    sampler = WidthSampler(widths=(1.0, 0.8, 0.75, 0.5, 0.3, 0.25))
    stages = [sampler(0, epoch, 4) for epoch in range(4)]
    assert stages == [[1.0], [1.0, 0.8, 0.75], [1.0, 0.8, 0.75, 0.5], [1.0, 0.8, 0.75, 0.5, 0.3, 0.25]]
    thirds = WidthSampler(widths=(0.9, 0.7, 0.5, 0.3))  # stages that floats don't hit: 0.9 - 0.2, 0.9 - 0.4, ...
    assert [len(thirds(0, epoch, 4)) for epoch in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize('slow_start, first', [(0.0, 0), (0.5, 5), (0.55, 6), (0.9, 9)])
@pytest.mark.parametrize('options', [dict(), dict(sandwich=False), dict(widths=(1.0, 0.4))])
def test_slow_start_trains_the_full_width_only_until_its_time(slow_start, first, options):
    sampler = WidthSampler(dynamic=False, slow_start=slow_start, **options)
    drawn = [sampler(epoch, epoch, 10) for epoch in range(10)]
    assert [len(widths) > 1 for widths in drawn] == [epoch >= first for epoch in range(10)]
    assert all(widths == [1.0] for widths in drawn[:first])


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(width_range=(1.0, 0.25)), r'width_range must be \(lowest, highest\)'),
        (dict(width_range=(0.25,)), r'width_range must be \(lowest, highest\)'),
        (dict(width_range=(0.25, 0.5, 1.0)), r'width_range must be \(lowest, highest\)'),
        (dict(width_range=(0.0, 1.0)), r'each limit of width_range must be in \(0, 1\], got 0.0'),
        (dict(width_range=(0.25, 1.5)), r'each limit of width_range must be in \(0, 1\], got 1.5'),
        (dict(num_widths=1), 'num_widths must be a whole number from 2 to 1000, got 1'),
        (dict(num_widths=0, sandwich=False), 'num_widths must be a whole number from 1 to 1000, got 0'),
        (dict(num_stages=1), 'num_stages must be a whole number from 2 to 1000, got 1'),
        (dict(widths=()), 'widths must be a list of 1 or more items'),
        (dict(widths=(0.5, 0.5)), 'widths must name no width twice'),
        (dict(widths=(0.5, 1.5)), r'each width of widths must be in \(0, 1\], got 1.5'),
        (dict(width_step=0.0), r'width_step must be in \[0.001, 1\], got 0.0'),
        (dict(width_step=0.1, widths=(1.0, 0.5)), 'width_step goes without a list of widths'),
        (dict(width_step=0.25), r'width_step=0.25 leave 2 widths from 0.75 to 1, where num_widths=3 are drawn'),
        (dict(width_step=0.1, num_widths=9, dynamic=False, sandwich=False, width_range=(0.5, 1.0)), 'leave 6 widths'),
        (dict(slow_start=1.0), r'slow_start must be in \[0, 1\), got 1.0'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WidthSampler(**arguments)


def test_width_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match='each limit of width_range must be a number'):
        WidthSampler(('0.25', 1.0))


@pytest.mark.parametrize('epoch, epochs', [(-1, 4), (4, 4), (5, 4), (0, 0)])
def test_epoch_outside_training_is_refused(epoch, epochs):
    with pytest.raises(ValueError, match=rf'epoch must be in \[0, {epochs}\), got {epoch}'):
        WidthSampler()(0, epoch, epochs)


@pytest.mark.parametrize(
    'options',
    [
        dict(width_range=(0.5, 0.5 + 2e-16)),
        dict(width_range=(0.5, 0.5 + 2e-16), dynamic=False),
        dict(width_range=(0.5, 0.500001), num_stages=1000),
        dict(width_range=(0.25, 0.251), num_widths=1000),
        dict(width_step=1e-9),
        dict(num_widths=10**9),
        dict(num_stages=10**9, dynamic=False, width_step=0.1),
    ],
)
def test_options_that_leave_no_room_for_the_draws_are_refused(options):
    with pytest.raises(ValueError, match='width_range|width_step|num_widths|num_stages'):
        WidthSampler(**options)


def random_options(draw):
    """Options of a sampler, many of them near what a draw could not end with."""
    low = draw.choice([0.25, 0.5, 1.0, 1e-6, 0.999, draw.uniform(0.01, 1)])
    high = min(1.0, low + draw.choice([0, 2e-16, 1e-12, 1e-7, 3e-6, 1e-4, 0.01, 0.3, 1.0]))
    return dict(
        width_range=(low, high),
        num_widths=draw.choice([1, 2, 3, 4, 17, 999, 1000]),
        dynamic=draw.random() < 0.5,
        num_stages=draw.choice([2, 3, 4, 50, 1000]),
        sandwich=draw.random() < 0.5,
        slow_start=draw.choice([0.0, 0.5, 0.999]),
        width_step=draw.choice([None, None, 1e-3, 0.01, 0.1, 1 / 3, 1.0]),
    )


def test_draws_end_for_every_sampler_that_is_accepted():
    def give_up(*_):
        raise TimeoutError(f'no end of the draws with {options}')

    draw, accepted = random.Random(0), 0
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        for _ in range(600):
            options = random_options(draw)
            try:
                sampler = WidthSampler(**options)
            except ValueError:
                continue
            accepted += 1
            assert sampler.count is None or sampler.count >= 1
            low, high = sampler.width_range
            for epoch in (0, 1, 50, 98, 99):
                widths = sampler(epoch, epoch, 100)
                assert widths == sorted(set(widths), reverse=True)
                assert low <= widths[-1] and widths[0] <= high
                # As many as asked for, or the full width alone where no narrow one is trained.
                lowest = sampler.lowest(epoch, 100)
                assert len(widths) == (1 if lowest == high else options['num_widths'])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert accepted > 200
