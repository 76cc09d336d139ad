"""Change of targets and gradients: against loops, autograd of the losses, and cases whose answer is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.losses import CosineSimilarityLoss

from us3l_mm.evaluation import mse_gradient, nce_gradient, tangent, temporal_consistency
from us3l_mm.models.losses import NTXentLoss

N, D, T = 6, 5, 0.3
LOSSES = {
    'mse': (CosineSimilarityLoss(), mse_gradient, N),
    'nce': (NTXentLoss(temperature=T), lambda s, t: nce_gradient(s, t, T), N * T),
}


def embedding(seed, shift=0.0):
    x = torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x + shift)


def autograd(loss, student, target):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, target), student)[0]


@pytest.mark.parametrize('name', LOSSES)
def test_gradients_are_those_of_the_losses(name, monkeypatch):
    loss, gradient, scale = LOSSES[name]
    s, t = embedding(1), embedding(2)
    # Through the normalisation, whose derivative at length 1 is the projection; then without it, the whole gradient.
    torch.testing.assert_close(autograd(loss, s, 3 * t) * scale, tangent(gradient(s, t), s))
    expected = gradient(2 * s, 3 * t)
    monkeypatch.setattr(F, 'normalize', lambda x, **_: x)
    torch.testing.assert_close(autograd(loss, s, t) * scale, expected)


def test_tangent_is_orthogonal_to_the_student():
    s, g = embedding(1), embedding(2)
    assert (tangent(g, 4 * s) * s).sum(dim=1).abs().max() < 1e-12
    torch.testing.assert_close(tangent(tangent(g, s), s), tangent(g, s))


def test_numbers_match_loops():
    before = [(embedding(1), embedding(2, 0.5)), (embedding(3), embedding(4, 0.5))]
    after = [(embedding(5), embedding(6, 0.5)), (embedding(7), embedding(8, 0.5))]
    found = temporal_consistency(before, after, T)

    moved, shared, nce, students = [], [], [], dict(stays=before, moves=after)
    felt = {(name, which): [[], []] for name in LOSSES for which in students}
    for view in range(2):
        (s, t), (_, t_new) = before[view], after[view]
        moved += [(t_new[i] - t[i]).norm().item() ** 2 for i in range(N)]
        shared.append(sum((t_new[i] - t[i]) / N for i in range(N)).norm().item() ** 2)
        difference = LOSSES['nce'][1](s, t_new) - LOSSES['nce'][1](s, t)
        nce += [difference[i].norm().item() ** 2 for i in range(N)]
        for name, (loss, _, scale) in LOSSES.items():
            old = scale * autograd(loss, s, t)  # through the normalisation
            for which, pairs in students.items():
                new = scale * autograd(loss, pairs[view][0], t_new)
                felt[name, which][0] += [(new[i] - old[i]).norm().item() ** 2 for i in range(N)]
                felt[name, which][1] += [old[i].norm().item() ** 2 for i in range(N)]
    expected = dict(
        target=math.sqrt(sum(moved) / len(moved)),
        shared=sum(shared) / 2 / (sum(moved) / len(moved)),
        nce=math.sqrt(sum(nce) / len(nce)),
        spread=sum(t.std(dim=0).mean().item() * math.sqrt(D) for _, t in before) / 2,
    )
    for name in LOSSES:
        for kind, which in (('relative', 'stays'), ('moving', 'moves')):
            change, length = felt[name, which]
            expected[f'{name}_{kind}'] = math.sqrt(sum(change) / sum(length))
    assert found == pytest.approx(expected, rel=1e-9)


def test_nothing_changes_where_nothing_moves():
    pairs = [(embedding(1), embedding(2))] * 2
    found = temporal_consistency(pairs, pairs)
    assert found.pop('spread') > 0 and set(found.values()) == {0.0}


def test_what_all_images_share_cancels_under_info_nce_alone():
    """The claim of the slides, where it holds exactly: embeddings all turn by the same rotation, students too."""
    base = F.normalize(torch.cat([torch.randn(N, D - 1).double() * 1e-2, torch.ones(N, 1).double()], dim=1))
    turn = torch.eye(D, dtype=torch.float64)  # in the plane of the mean and another direction
    turn[-1, -1] = turn[0, 0] = math.cos(0.3)
    turn[0, -1], turn[-1, 0] = math.sin(0.3), -math.sin(0.3)
    student = F.normalize(base + 1e-2 * embedding(1))
    found = temporal_consistency([(student, base)], [(student @ turn, base @ turn)])
    assert found['shared'] > 0.99 and found['target'] > 0.25
    moving = nce_gradient(student @ turn, base @ turn) - nce_gradient(student, base)
    assert moving.norm(dim=1).mean() < 0.05 * found['target']


def test_both_moments_need_the_same_images():
    with pytest.raises(ValueError, match=r'same images and dimensions, got shapes \[\(6, 5\)'):
        temporal_consistency([(embedding(1), embedding(2))], [(embedding(1)[:3], embedding(2)[:3])])
