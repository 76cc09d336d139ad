"""Accuracies of several runs, as series that are comparable."""

import json

import pytest

from us3l_mm.evaluation import accuracy_series, find_runs


def row(width, top1, **more):
    return dict(width=width, size=[16, 16], params=10, macs=int(1e6 * width), top1=top1, **more)


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{name}.json').write_text(json.dumps(content))


def probe(*rows):
    return dict(config='configs/linear/r18_1xb512-100e_cifar100.py', checkpoint='x.pth', widths=list(rows))


def test_probes_of_one_kind_form_a_group(tmp_path):
    write(tmp_path / 'a', 'linear_probe', probe(row(1.0, 70.0), row(0.5, 60.0)))
    write(tmp_path / 'b', 'linear_probe', probe(row(1.0, 71.0)))
    few = {'1%': dict(mean=30.0, std=1.5, seeds=3), '10': dict(mean=20.0, std=0.5, seeds=3)}
    write(tmp_path / 'b', 'fast_probe', probe(row(1.0, 69.0, knn20=65.0, few=few)))
    found = accuracy_series(find_runs([tmp_path]))
    groups = {one.group: [(other.label, other.points) for other in found if other.group == one.group] for one in found}
    where = 'cifar100, 16 x 16 pixels'
    assert groups == {
        f'Top-1 accuracy (%): linear probe, {where}': [
            ('a', [(1.0, 1000000, 70.0, None), (0.5, 500000, 60.0, None)]),
            ('b', [(1.0, 1000000, 71.0, None)]),
        ],
        f'Top-1 accuracy (%): fast probe, {where}': [('b', [(1.0, 1000000, 69.0, None)])],
        f'k-NN accuracy (%), k = 20: fast probe, {where}': [('b', [(1.0, 1000000, 65.0, None)])],
        f'Accuracy (%) with 1% of the labels: fast probe, {where}': [('b', [(1.0, 1000000, 30.0, 1.5)])],
        f'Accuracy (%) with 10 labels a class: fast probe, {where}': [('b', [(1.0, 1000000, 20.0, 0.5)])],
    }


@pytest.fixture
def table(tmp_path):
    case = dict(
        what='US3L', measured={'1': 90.0}, measured_std={'1': 0.5}, macs={'1': 2e6}, published={'1': 69.0, '0.5': None}
    )
    write(tmp_path, 'table', {'r18': case, 'empty': dict(what='not run', measured={}, published={})})
    lines = [
        'Title. Linear accuracy (%) by width.',
        'Measured: digits; 2 epochs, 3 of linear evaluation; 1 of 2 cases.',
    ]
    (tmp_path / 'table.md').write_text('\n'.join([*lines, 'Published: CIFAR-100; main table of the paper.']))
    return tmp_path


def test_a_table_tells_measured_from_published(table):
    ours, published = accuracy_series(find_runs([table]))
    assert ours.label == 'r18: US3L' and not ours.published
    assert ours.points == [(1.0, 2e6, 90.0, 0.5)]
    assert published.label == 'r18: US3L, published (CIFAR-100)' and published.published
    assert published.points == [(1.0, None, 69.0, None)]  # the MACs are those of our nets; a collapse is no number
    assert ours.group == published.group == 'Linear accuracy (%): digits; 2 epochs, 3 of linear evaluation'


def test_the_probes_below_a_table_are_in_it_already(table):
    write(table / 'r18' / 'probe', 'linear_probe', probe(row(1.0, 90.0)))
    assert len(accuracy_series(find_runs([table]))) == 2
