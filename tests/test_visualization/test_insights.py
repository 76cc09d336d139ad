"""Insights say what their numbers say, and their pictures show them."""

import json
import math

import numpy as np
import pytest
import torch

from us3l_mm.visualization.feature_insights import cka_insight, neighbours_insight
from us3l_mm.visualization.image_insights import RIGHT, WRONG, Images, cam_insight, retrieval_insight
from us3l_mm.visualization.insight import write_insight
from us3l_mm.visualization.weight_insight import weight_insight


def image(index):
    return np.full((4, 4, 3), index, np.uint8)


def frames(axes):
    return [spine.get_edgecolor() for spine in axes.spines.values()][0]


def test_weights_are_compared_by_halves_of_the_channels():
    networks = {
        'rising': {'convolution weights': {'a': torch.tensor([1.0, 3.0]), 'b': torch.tensor([2.0, 2.0])}},
        'flat': {'convolution weights': {'a': torch.tensor([2.0, 2.0])}},
    }
    insight = weight_insight(networks)
    assert '+66.7 % (rising), +0.0 % (flat)' in insight.says  # 1.25 over 0.75
    assert insight.data['rising']['convolution weights']['mean'] == [0.75, 1.25]
    assert '| convolution weights | rising | 2 | 0.750 | 1.250 | +66.67 % |' in insight.table
    (axes,) = insight.figure.axes
    drawn = [container.lines[0].get_ydata().tolist() for container in axes.containers]
    assert drawn == [[0.75, 1.25], [1, 1]]


def test_blocks_that_do_not_vary_are_dashes_and_null(tmp_path):
    insight = cka_insight(['a', 'b', 'c'], {1.0: [1, 1, 1], 0.5: [0.9, math.nan, 0.8]})
    assert insight.says == 'At width 0.5, a is most like itself at width 1 (CKA 0.900) and c least (0.800).'
    assert '| b | – |' in insight.table
    picture = write_insight(insight, tmp_path / 'insight', 'python tool.py')
    assert picture.read_bytes().startswith(b'\x89PNG')
    written = json.loads((tmp_path / 'insight' / 'cka.json').read_text())
    assert written.keys() == {'title', 'says', 'command', 'data'} and written['command'] == 'python tool.py'
    assert written['data']['cka'] == {'0.5': [0.9, None, 0.8]}
    assert 'collapsed' in cka_insight(['a'], {1.0: [math.nan], 0.5: [math.nan]}).says


def test_images_and_classes_that_change_most_are_named():
    overlaps = {0.5: torch.tensor([1.0, 0.8, 0.6, 1.0]), 0.25: torch.tensor([0.5, 0.4, 0.0, 0.2])}
    insight = neighbours_insight(overlaps, torch.tensor([0, 0, 1, 1]), ['cat', 'dog'], 5, [3, 5, 7, 9])
    assert insight.data['least'][0] == dict(image=7, label='dog', kept=0.0)
    assert [item['image'] for item in insight.data['least']] == [7, 9, 5, 3]
    assert insight.data['classes'] == {'cat': pytest.approx([90, 45]), 'dog': pytest.approx([80, 10])}
    assert 'class dog keeps least (10 %)' in insight.says and '| all | 85.0 | 27.5 |' in insight.table


def test_neighbours_are_framed_by_their_class():
    neighbours = {1.0: torch.tensor([[1], [0], [1]]), 0.5: torch.tensor([[2], [2], [0]])}
    insight = retrieval_insight(neighbours, Images(torch.tensor([0, 0, 1]), ['cat', 'dog'], [10, 11, 12], image), [0])
    assert insight.data['queries'] == [dict(image=10, label='cat', neighbours={'1': [11], '0.5': [12]})]
    assert insight.data['same_class'] == {'1': pytest.approx(200 / 3), '0.5': 0}
    query, same, empty, other = insight.figure.axes
    assert [axes.images[0].get_array()[0, 0, 0] for axes in (query, same, other)] == [0, 1, 2] and not empty.images
    from matplotlib.colors import to_rgba

    assert (frames(same), frames(other)) == (to_rgba(RIGHT), to_rgba(WRONG))


def test_maps_lie_over_their_images():
    maps = {1.0: torch.tensor([[[1.0, 2.0]]]), 0.5: torch.tensor([[[4.0, 3.0]]])}
    predicted = {1.0: torch.tensor([1]), 0.5: torch.tensor([0])}
    accuracy = {1.0: 90.0, 0.5: 80.0}
    insight = cam_insight(maps, predicted, accuracy, Images(torch.tensor([0, 1]), ['cat', 'dog'], [6, 7], image), [1])
    assert insight.data['images'][0]['predicted'] == {'1': 'dog', '0.5': 'cat'}
    plain, wide, narrow = insight.figure.axes
    assert len(plain.images) == 1
    for axes, title, heat in ((wide, 'width 1: dog', [[1, 2]]), (narrow, 'width 0.5: cat', [[4, 3]])):
        assert axes.get_title() == title and axes.images[1].get_array().tolist() == heat
    assert '90.0 % at width 1, 80.0 % at width 0.5' in insight.says and '1 x 2 positions' in insight.says
