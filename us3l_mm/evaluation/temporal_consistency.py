r"""How much the guidance of a student changes from one moment of a training to the next.

Shapes: N images, D embedding dimensions. Embeddings are L2-normalised: s_i of the student, t_i its target.

The gradient view of the paper: iteration h changes the weights :math:`\theta`, which multiplies the targets by some
:math:`w^\theta`. Up to constants, what the student is pulled by then changes by

.. math::
    \text{MSE:}\quad & (I - w^\theta)\, t_i \\
    \text{InfoNCE:}\quad & (I - w^\theta)\, (t_i - \sum_j A_{ij} x_j)

so a change that all images share cancels in the second and not in the first. Both are measured here as they are: not
with a linear :math:`w^\theta` and a constant A, but from the embeddings of the same images at the two moments.

Source: Cao, Sun and Zhou, "Three Guidelines You Should Know for Universally Slimmable Self-Supervised Learning",
CVPR 2023.
"""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Pairs = Sequence[tuple[Tensor, Tensor]]


def _normalised(embedding: Tensor) -> Tensor:
    return F.normalize(embedding.to(torch.promote_types(embedding.dtype, torch.float32)))


def mse_gradient(student: Tensor, target: Tensor) -> Tensor:
    r"""N times the gradient of :math:`-\frac1N \sum_i s_i t_i` with respect to s: :math:`-t_i`.

    Args:
        student (Tensor): Outputs of shape (N, D); without effect.
        target (Tensor): Targets of shape (N, D).

    Returns:
        Tensor: Of shape (N, D), also in directions in which normalised embeddings cannot move; see :func:`tangent`.
    """
    return -_normalised(target)


def nce_gradient(student: Tensor, target: Tensor, temperature: float = 0.5) -> Tensor:
    r"""N T times the gradient of :func:`us3l_mm.models.losses.nt_xent` with respect to the normalised s.

    With :math:`x = [s; t]` and :math:`P_{ij}` the softmax of row i over :math:`j \ne i`. Both sides are anchors, so s_i
    is repelled by x_j as an anchor, by P_ij, and as a negative of it, by P_ji:

    .. math:: -(t_i - \sum_{j \ne i} A_{ij} x_j), \quad A_{ij} = (P_{ij} + P_{ji}) / 2

    Args:
        student (Tensor): Outputs of shape (N, D).
        target (Tensor): Targets of shape (N, D).
        temperature (float): T.

    Returns:
        Tensor: Of shape (N, D), as for :func:`mse_gradient`.
    """
    x = torch.cat([_normalised(student), _normalised(target)])  # (2N, D)
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    chosen = (x @ x.T / temperature).masked_fill(itself, -torch.inf).softmax(dim=1)  # P, (2N, 2N)
    mixed = (chosen + chosen.T) @ x / 2  # (2N, D)
    return mixed[: len(student)] - x[len(student) :]


def tangent(gradient: Tensor, student: Tensor) -> Tensor:
    r"""The part of a gradient that moves a normalised embedding: :math:`g_i - (g_i s_i) s_i`.

    Args:
        gradient (Tensor): Gradients of shape (N, D).
        student (Tensor): Outputs of shape (N, D).
    """
    s = _normalised(student)
    return gradient - (gradient * s).sum(dim=1, keepdim=True) * s


def _size(vectors: Tensor) -> float:
    """Root of the mean squared length of vectors (N, D)."""
    return vectors.square().sum(dim=1).mean().sqrt().item()


@torch.no_grad()
def temporal_consistency(before: Pairs, after: Pairs, temperature: float = 0.5) -> dict[str, float]:
    """Measure how targets and gradients change between two moments.

    Changes are roots of mean squared lengths over images and views. ``target`` and ``nce`` are in the unit of the
    slides, the length of a target. Relative ones are of what the student can follow, :func:`tangent`, over its length
    before; 2 ** 0.5 is what two unrelated gradients of one length have.

    Args:
        before (Pairs): For each view, outputs of a student and their targets, both (N, D).
        after (Pairs): Those of the same images at the later moment.
        temperature (float): Temperature of InfoNCE. Defaults to 0.5.

    Returns:
        dict[str, float]: Changes where the student stays and only its targets move, as in the slides: ``target``, that
        of the targets and so of the gradient under MSE; ``nce``, that of the gradient under InfoNCE; ``mse_relative``
        and ``nce_relative``. Where the student moves, too: ``mse_moving`` and ``nce_moving``, relative. Beside them
        ``shared``, the part of the squared change of the targets that all images of a view share, 0 to 1; ``spread``,
        the standard deviation of the targets times sqrt(D): 1 is healthy, 0 a collapse, where nothing can change.

    Raises:
        ValueError: If the two moments differ in shapes.
    """
    shapes = [[tuple(tensor.shape) for pair in pairs for tensor in pair] for pairs in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f'both moments need the same images and dimensions, got shapes {shapes[0]} and {shapes[1]}')
    moved = [_normalised(new) - _normalised(old) for (_, old), (_, new) in zip(before, after)]
    target = _size(torch.cat(moved))
    common = sum(change.mean(dim=0).square().sum().item() for change in moved) / len(moved)
    spread = sum(_normalised(old).std(dim=0).mean().item() * old.size(1) ** 0.5 for _, old in before) / len(before)
    stays = [(student, target) for (student, _), (_, target) in zip(before, after)]
    nce = functools.partial(nce_gradient, temperature=temperature)
    return dict(
        target=target,
        shared=common / target**2 if target else 0.0,
        spread=spread,
        nce=_size(_all(nce, stays) - _all(nce, before)),
        mse_relative=_relative(mse_gradient, before, stays),
        nce_relative=_relative(nce, before, stays),
        mse_moving=_relative(mse_gradient, before, after),
        nce_moving=_relative(nce, before, after),
    )


def _all(gradient: Callable[[Tensor, Tensor], Tensor], pairs: Pairs) -> Tensor:
    """Gradients of all views, one below the other."""
    return torch.cat([gradient(*pair) for pair in pairs])


def _relative(gradient: Callable[[Tensor, Tensor], Tensor], before: Pairs, after: Pairs) -> float:
    """Change of the part of a gradient that the student can follow, over its length before."""
    old, new = (_all(lambda s, t: tangent(gradient(s, t), s), pairs) for pairs in (before, after))
    length = _size(old)
    return _size(new - old) / length if length else 0.0
