"""Losses, against double loops of their formulas in float64."""

import math

import pytest
import torch
from mmpretrain.models.losses import CosineSimilarityLoss

from us3l_mm.models import NTXentLoss
from us3l_mm.models.losses import nt_xent
from us3l_mm.registry import MODELS


def nt_xent_by_loops(student, teacher, temperature):
    """Mean over the 2N rows of -log softmax of the positive, with Python floats."""
    rows = [row.tolist() for row in torch.cat([student, teacher]).double()]
    rows = [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in rows]
    n = len(rows) // 2
    total = 0.0
    for i, row in enumerate(rows):
        partner = i + n if i < n else i - n
        scores = {j: sum(a * b for a, b in zip(row, rows[j])) / temperature for j in range(2 * n) if j != i}
        total += math.log(sum(math.exp(score) for score in scores.values())) - scores[partner]
    return total / (2 * n)


@pytest.mark.parametrize('n, d', [(1, 4), (2, 3), (7, 8), (16, 32)])
@pytest.mark.parametrize('temperature', [0.07, 0.5, 2.0])
def test_nt_xent_matches_loops(n, d, temperature):
    student, teacher = (torch.randn(n, d, dtype=torch.float64) for _ in range(2))
    expected = nt_xent_by_loops(student, teacher, temperature)
    assert nt_xent(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert NTXentLoss(temperature)(student, teacher).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_temperature_is_one_half_by_default():
    student, teacher = torch.randn(4, 8).double(), torch.randn(4, 8).double()
    expected = nt_xent_by_loops(student, teacher, 0.5)
    assert nt_xent(student, teacher).item() == pytest.approx(expected)
    assert MODELS.build(dict(type='NTXentLoss'))(student, teacher).item() == pytest.approx(expected)


def test_nt_xent_gradient_matches_finite_differences_and_reaches_the_student_only():
    student = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    loss = nt_xent(student, teacher)
    loss.backward()
    assert teacher.grad is None
    step = 1e-6
    for i in range(5):
        for j in range(6):
            values = []
            for sign in (1, -1):
                moved = student.detach().clone()
                moved[i, j] += sign * step
                values.append(nt_xent_by_loops(moved, teacher.detach(), 0.5))
            assert student.grad[i, j].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


def test_nt_xent_ignores_the_length_of_rows_and_their_common_order():
    student, teacher = torch.randn(6, 8).double(), torch.randn(6, 8).double()
    expected = nt_xent(student, teacher)
    torch.testing.assert_close(nt_xent(3 * student, teacher / 7), expected)
    order = torch.randperm(6)
    torch.testing.assert_close(nt_xent(student[order], teacher[order]), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('autocast', [False, True])
def test_nt_xent_of_low_precision_inputs_is_computed_in_float32(dtype, autocast):
    student, teacher = torch.randn(16, 32).to(dtype), torch.randn(16, 32).to(dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        loss = nt_xent(student, teacher, 0.1)
    assert loss.dtype == torch.float32
    # The inputs' rounding is in both; a product in bfloat16 would be off by some 1e-2.
    assert loss.item() == pytest.approx(nt_xent_by_loops(student, teacher, 0.1), rel=2e-6)


@pytest.mark.parametrize('scale', [1e-6, 1e4])
def test_nt_xent_is_finite_for_extreme_values(scale):
    """Exponentials of raw scores at T = 0.01 overflow float32."""
    student = (scale * torch.randn(8, 16)).requires_grad_()
    teacher = scale * torch.randn(8, 16)
    loss = nt_xent(student, teacher, temperature=0.005)
    loss.backward()
    assert loss.item() == pytest.approx(nt_xent_by_loops(student.detach(), teacher, 0.005), rel=1e-4)
    assert student.grad.isfinite().all()


def test_nt_xent_of_a_zero_row_is_finite():
    student = torch.randn(4, 8)
    student[1] = 0
    student.requires_grad_()
    loss = nt_xent(student, torch.randn(4, 8))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_nt_xent_of_identical_orthogonal_embeddings_has_a_closed_form():
    x = torch.eye(4, dtype=torch.float64)
    # Positive: score 1 / T; the other 6 rows: 0.
    assert nt_xent(x, x, 0.5).item() == pytest.approx(-2 + math.log(math.exp(2) + 6))


@pytest.mark.parametrize('temperature', [0, -0.5])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=f'temperature must be positive, got {temperature}'):
        NTXentLoss(temperature)


def test_gather_in_one_process_changes_nothing():
    student, teacher = torch.randn(4, 8), torch.randn(4, 8)
    assert torch.equal(NTXentLoss(gather=True)(student, teacher), NTXentLoss()(student, teacher))


def test_mse_form_is_the_negative_mean_cosine():
    pred, target = torch.randn(6, 8, dtype=torch.float64), torch.randn(6, 8, dtype=torch.float64)
    expected = 0.0
    for p, z in zip(pred.tolist(), target.tolist()):
        dot = sum(a * b for a, b in zip(p, z))
        expected -= dot / math.sqrt(sum(a * a for a in p)) / math.sqrt(sum(b * b for b in z)) / 6
    assert CosineSimilarityLoss()(pred, target).item() == pytest.approx(expected, rel=1e-12)
