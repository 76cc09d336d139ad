"""Losses, against double loops of their formulas in float64."""

import math

import pytest
import torch
from mmpretrain.models.losses import CosineSimilarityLoss

from us3l_mm.models import NTXentLoss, SEEDLoss
from us3l_mm.models.losses import nt_xent, soft_similarity
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
    with pytest.raises(ValueError, match=rf'temperature must be in \[1e-6, inf\), got {temperature}'):
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


# SEED


def soft_similarity_by_loops(student, teacher, queue, student_temperature, teacher_temperature):
    """Cross entropy of the two distributions of similarity, with Python floats."""

    def unit(row):
        length = math.sqrt(sum(v * v for v in row))
        return [v / length for v in row]

    def distribution(row, others, temperature):
        scores = [sum(a * b for a, b in zip(row, other)) / temperature for other in others]
        top = max(scores)
        total = sum(math.exp(score - top) for score in scores)
        return [math.exp(score - top) / total for score in scores]

    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist()):
        s, t = unit(s), unit(t)
        others = [t, *queue.tolist()]
        wanted = distribution(t, others, teacher_temperature)
        got = distribution(s, others, student_temperature)
        total -= sum(p * math.log(q) for p, q in zip(wanted, got) if p)
    return total / len(student)


@pytest.mark.parametrize('temperatures', [(0.5, 1e-4), (0.2, 0.01), (0.5, 0.5)])
def test_seed_loss_matches_loops(temperatures):
    student, teacher, queue = (torch.randn(n, 6, dtype=torch.float64) for n in (5, 5, 9))
    queue = torch.nn.functional.normalize(queue)
    expected = soft_similarity_by_loops(student, teacher, queue, *temperatures)
    assert soft_similarity(student, teacher, queue, *temperatures).item() == pytest.approx(expected, rel=1e-9)
    module = SEEDLoss(9, 6, *temperatures).double().eval()
    module.queue.copy_(queue)
    assert module(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_seed_loss_reaches_the_student_only_and_is_least_where_it_equals_the_teacher():
    teacher = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    queue = torch.nn.functional.normalize(torch.randn(8, 6, dtype=torch.float64))
    soft_similarity(student, teacher, queue, 0.5, 0.5).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() < 1e-12  # equal temperatures and embeddings: the minimum


def test_seed_loss_in_low_precision_is_computed_in_float32():
    student, teacher = torch.randn(4, 8).bfloat16(), torch.randn(4, 8).bfloat16()
    module = SEEDLoss(8, 8).eval()
    with torch.autocast('cpu', torch.bfloat16):
        loss = module(student, teacher)
    assert loss.dtype == torch.float32
    expected = soft_similarity_by_loops(student.double(), teacher.double(), module.queue.double(), 0.5, 1e-4)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_seed_queue_holds_the_latest_embeddings_and_wraps():
    module = SEEDLoss(queue_len=6, feat_dim=3)
    start = module.queue.clone()
    batches = [torch.randn(2, 3) for _ in range(5)]
    kept = list(start)  # a plain list of rows
    position = 0
    for batch in batches:
        module(torch.randn(2, 3), batch)
        for row in batch:
            kept[position % 6] = row / row.norm()
            position += 1
        torch.testing.assert_close(module.queue, torch.stack(kept))
    assert module.pointer.item() == 10 % 6


def test_seed_loss_sees_the_queue_of_before_the_batch():
    module, batch = SEEDLoss(4, 3), torch.randn(2, 3)
    student, before = torch.randn(2, 3), module.queue.clone()
    loss = module(student, batch)
    assert loss.item() == pytest.approx(soft_similarity(student, batch, before, 0.5, 1e-4).item())
    assert not torch.equal(module.queue, before)


def test_seed_evaluation_leaves_the_queue_alone():
    module = SEEDLoss(4, 3).eval()
    before = module.queue.clone()
    module(torch.randn(2, 3), torch.randn(2, 3))
    assert torch.equal(module.queue, before) and module.pointer.item() == 0


def test_seed_gradient_is_right_though_the_queue_moves_before_the_backward():
    module = SEEDLoss(4, 3, teacher_temperature=0.1).double()
    student, teacher = torch.randn(2, 3).double().requires_grad_(), torch.randn(2, 3).double()
    (expected,) = torch.autograd.grad(soft_similarity(student, teacher, module.queue.clone(), 0.5, 0.1), student)
    module(student, teacher).backward()
    torch.testing.assert_close(student.grad, expected)


@pytest.mark.parametrize('batch', [3, 5, 8])
def test_seed_queue_refuses_a_batch_that_does_not_divide_it(batch):
    module = SEEDLoss(queue_len=4, feat_dim=3)
    with pytest.raises(ValueError, match=f'queue_len must be a multiple .* queue_len=4 and {batch} images'):
        module(torch.randn(batch, 3), torch.randn(batch, 3))


@pytest.mark.parametrize('wrong', [dict(queue_len=0), dict(feat_dim=-1), dict(student_temperature=0.0)])
def test_seed_arguments_must_be_positive(wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))} must be '):
        SEEDLoss(**{**dict(queue_len=4, feat_dim=3), **wrong})


def test_seed_queue_is_saved_with_the_model():
    module = SEEDLoss(4, 3)
    module(torch.randn(2, 3), torch.randn(2, 3))
    other = SEEDLoss(4, 3)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.queue, module.queue) and other.pointer.item() == 2
