"""Curves that are drawn are those that were given, read back from the figure."""

import math

import numpy as np
import pytest

from us3l_mm.visualization import Curve, Panel, plot_panels


def panels():
    wide = Curve([1.0, 0.5, 0.25], [70.0, 65.0, 50.0], 'wide', notes=['a', 'b', 'c'])
    gap = Curve([1.0, 0.5, 0.25], [60.0, math.nan, 40.0], options=dict(fmt='s:'))
    spread = Curve([3.0, 4.0], [1.0, 2.0], 'spread', options=dict(yerr=[0.5, 0.25]))
    return [
        Panel([wide, gap], 'width', 'accuracy (%)', 'first'),
        Panel([spread], 'MACs (M)', 'loss', budget=3.5, legend=dict(loc='lower left')),
        Panel([Curve([1.0], [2.0])], 'x', 'y'),
    ]


def points(container):
    return container.lines[0].get_xydata()


def test_every_point_is_drawn_in_its_panel():
    given = panels()
    figure = plot_panels(given, 'heading', width=2, height=3)
    assert tuple(figure.get_size_inches()) == (6, 3) and figure.get_suptitle() == 'heading'
    assert len(figure.axes) == len(given)
    for axes, panel in zip(figure.axes, given):
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (panel.xlabel, panel.ylabel, panel.title)
        assert len(axes.containers) == len(panel.curves)
        for container, curve in zip(axes.containers, panel.curves):
            np.testing.assert_array_equal(points(container), list(zip(curve.x, curve.y)))
            low, high = axes.get_xlim()
            assert all(low < x < high for x in curve.x)


def test_options_of_a_curve_replace_the_usual_ones():
    first, second = plot_panels(panels()).axes[0].containers
    assert (first.lines[0].get_marker(), first.lines[0].get_linestyle()) == ('o', '-')
    assert (second.lines[0].get_marker(), second.lines[0].get_linestyle()) == ('s', ':')


def test_bars_span_the_errors():
    (container,) = plot_panels(panels()).axes[1].containers
    (bars,) = container.lines[2]
    spans = [[tuple(end) for end in bar] for bar in bars.get_segments()]
    assert spans == [[(3.0, 0.5), (3.0, 1.5)], [(4.0, 1.75), (4.0, 2.25)]]


def test_notes_stand_at_their_points():
    texts = plot_panels(panels()).axes[0].texts
    assert [(text.get_text(), text.xy) for text in texts] == [
        ('a', (1.0, 70.0)),
        ('b', (0.5, 65.0)),
        ('c', (0.25, 50.0)),
    ]


def test_budget_is_a_line_across_its_panel_only():
    def uprights(axes):
        found = [line for line in axes.lines if list(line.get_ydata()) == [0, 1] and len(set(line.get_xdata())) == 1]
        return [line.get_xdata()[0] for line in found]

    assert [uprights(axes) for axes in plot_panels(panels()).axes] == [[], [3.5], []]


def test_legend_names_what_has_a_label():
    legends = [axes.get_legend() for axes in plot_panels(panels()).axes]
    names = [legend and [text.get_text() for text in legend.get_texts()] for legend in legends]
    assert names == [['wide'], ['budget', 'spread'], None]


@pytest.mark.parametrize('suffix', ['png', 'svg'])
def test_figure_can_be_written(suffix, tmp_path):
    plot_panels(panels()).savefig(tmp_path / f'x.{suffix}')
    assert (tmp_path / f'x.{suffix}').stat().st_size > 1000
