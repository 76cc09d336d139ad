"""The search for the widths of parts."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from us3l_mm.models import SlimmableResNet, SlimmableResNet_CIFAR
from us3l_mm.slim import to_dense

sys.path.insert(0, str(Path(__file__).parents[1]))
from width_search import cka_distance, greedy_search, pooled_features, ridge_error, separable_parts  # noqa: E402

TINY = dict(stem_channels=16, base_channels=16)


def test_parts_whose_outputs_are_added_are_one_group():
    assert separable_parts(SlimmableResNet_CIFAR(18, **TINY)) == [
        ('conv1', 'layer1'),  # no downsampling between them
        ('layer2',),
        ('layer3',),
        ('layer4',),
    ]
    assert separable_parts(SlimmableResNet(50, **TINY)) == [
        (name,) for name in ('conv1', 'layer1', 'layer2', 'layer3', 'layer4')
    ]


def test_features_are_those_of_the_plain_net_and_leave_no_trace():
    net = SlimmableResNet_CIFAR(18, **TINY).eval()
    widths, batches = {'layer2': 0.5, 'layer4': 0.5}, [torch.randn(4, 3, 16, 16) for _ in range(2)]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    got = pooled_features(net, widths, batches)
    dense = to_dense(net, widths, with_statistics=False).train()
    with torch.no_grad():
        expected = torch.cat([dense(batch)[-1].mean((2, 3)) for batch in batches])
    torch.testing.assert_close(got, expected)
    after = net.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert not any(layer.training for layer in net.modules())


def test_distance_matches_a_loop_over_pairs_of_images():
    """CKA is the cosine of the two centred Gram matrices."""
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    centred = [[row - f.mean(0) for row in f] for f in (x, y)]
    products = {'xy': 0.0, 'xx': 0.0, 'yy': 0.0}
    for i, j in itertools.product(range(7), repeat=2):
        a, b = ((rows[i] @ rows[j]).item() for rows in centred)
        products['xy'] += a * b
        products['xx'] += a * a
        products['yy'] += b * b
    expected = 1 - products['xy'] / (products['xx'] * products['yy']) ** 0.5
    assert cka_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_distance_is_zero_for_a_rotation_and_scaling_and_large_for_noise():
    x = torch.randn(50, 6, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    assert cka_distance(3 * x @ rotation + 2, x) < 1e-9
    assert cka_distance(torch.randn(50, 6), x) > 0.5


def test_error_is_that_of_scikit_learns_ridge_classifier():
    features, labels = torch.randn(60, 8, dtype=torch.float64), torch.arange(60) // 2 % 4
    features += torch.nn.functional.one_hot(labels, 8)
    got = ridge_error(features, labels, decay=1e-9)
    model = RidgeClassifier(alpha=1e-9).fit(features[::2].numpy(), labels[::2].numpy())
    assert got == pytest.approx(1 - model.score(features[1::2].numpy(), labels[1::2].numpy()))


def test_search_slims_the_part_that_hurts_least_for_what_it_saves():
    price, pain = {'a': 10, 'b': 4, 'c': 1}, {'a': 5, 'b': 1, 'c': 9}

    def cost(widths):
        return sum(price[part] * width for part, width in widths.items())

    def harm(widths):
        return sum(pain[part] * (1 - width) for part, width in widths.items())

    steps = list(greedy_search([('a',), ('b',), ('c',)], cost, harm, budget=9.5, step=0.25, lowest=0.25))
    assert steps[0]['widths'] == dict(a=1.0, b=1.0, c=1.0)
    costs = [step['cost'] for step in steps]
    assert costs == sorted(costs, reverse=True) and costs[-1] <= 9.5 < costs[-2]
    # b hurts 0.25 for each unit saved, a 0.5, c 9.
    assert [step['widths']['b'] for step in steps[:4]] == [1.0, 0.75, 0.5, 0.25]
    assert steps[-1]['widths'] == dict(a=0.75, b=0.25, c=1.0)


def test_groups_move_together():
    for step in greedy_search(
        [('a', 'b')], lambda w: sum(w.values()), lambda w: 0.0, budget=0.6, step=0.3, lowest=0.25
    ):
        assert step['widths']['a'] == step['widths']['b']
    assert step['widths'] == dict(a=0.25, b=0.25)


def test_widths_that_rounding_makes_equal_are_passed_over():
    """A cost in steps of a quarter, as channels have them."""
    steps = list(greedy_search([('a',)], lambda w: round(4 * w['a']), lambda w: 0.0, budget=2, step=0.1, lowest=0.25))
    assert [step['cost'] for step in steps] == [4, 3, 2]


def test_budget_out_of_reach_says_what_is_in_reach():
    with pytest.raises(ValueError, match='budget of 0.1 is out of reach: all parts at 0.25 cost 0.25'):
        list(greedy_search([('a',)], lambda w: w['a'], lambda w: 0.0, budget=0.1))


@pytest.mark.parametrize('wrong', [dict(step=0.0), dict(lowest=1.0)])
def test_bad_steps_are_refused(wrong):
    with pytest.raises(ValueError, match=r'step and lowest must be in \(0, 1\)'):
        list(greedy_search([('a',)], lambda w: w['a'], lambda w: 0.0, budget=0.1, **wrong))
