"""Contrastive loss between a student and a teacher.

Shapes: N images, D embedding dimensions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn import functional as collectives

from us3l_mm.registry import MODELS
from us3l_mm.slim import check_flag, check_number

TEMPERATURES = '[1e-6, inf)'  # less makes similarities infinite in float32


def nt_xent(student: Tensor, teacher: Tensor, temperature: float = 0.5) -> Tensor:
    r"""Normalised temperature-scaled cross entropy, with rows of both sides as anchors.

    With :math:`x = [s; \mathrm{sg}(t)]`, L2-normalised, and row i's positive its partner :math:`i \pm N`:

    .. math:: \frac{1}{2N} \sum_i -\log \frac{e^{x_i x_{i \pm N} / T}}{\sum_{j \ne i} e^{x_i x_j / T}}

    Computed in at least float32, also under autocast.

    Args:
        student (Tensor): Outputs of shape (N, D).
        teacher (Tensor): Targets of shape (N, D); no gradient flows into them.
        temperature (float): T.

    Returns:
        Tensor: Scalar.

    Source: Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020; Cao et al., CVPR 2023.
    """
    with torch.autocast(student.device.type, enabled=False):
        dtype = torch.promote_types(student.dtype, torch.float32)
        s, t = F.normalize(student.to(dtype)), F.normalize(teacher.detach().to(dtype))
        across = s @ t.T  # by blocks: half of the products of x @ x.T and its gradient, which is that of s alone
        rows = torch.cat([s @ s.T, across], dim=1), torch.cat([across.T, t @ t.T], dim=1)
        similarity = torch.cat(rows) / temperature  # (2N, 2N)
        itself = torch.eye(len(similarity), dtype=torch.bool, device=s.device)
        partner = torch.arange(len(similarity), device=s.device).roll(len(s))
        return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """:func:`nt_xent` as a module.

    Args:
        temperature (float): Temperature, at least 1e-6. Defaults to 0.5.
        gather (bool): Whether the images of all processes are negatives. Gradients flow between processes, so that the
            mean that DDP takes is the gradient of the joint batch. Defaults to False.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If ``temperature`` is out of its range.
    """

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        super().__init__()
        self.temperature = check_number('temperature', temperature, TEMPERATURES)
        self.gather = check_flag('gather', gather)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of (N, D) outputs against (N, D) targets."""
        return self.views([pred], [target])[0]

    def views(self, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        """Loss of each (N, D) output against its (N, D) target, with one collective for all."""
        if self.gather and get_world_size() > 1:
            # Every process computes the same joint loss; the backward of this gather sums over them, and DDP's mean
            # undoes the factor.
            rows = torch.cat(collectives.all_gather(torch.cat([*predictions, *targets], dim=1)))
            rows = rows.split([tensor.size(1) for tensor in (*predictions, *targets)], dim=1)
            predictions, targets = rows[: len(predictions)], rows[len(predictions) :]
        return [nt_xent(pred, target, self.temperature) for pred, target in zip(predictions, targets, strict=True)]


def view_losses(loss: nn.Module, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
    """Loss of each (N, D) output against its (N, D) target, by ``loss.views`` if the loss has it."""
    views = getattr(loss, 'views', None)
    if views is not None:
        return views(predictions, targets)
    return [loss(pred, target) for pred, target in zip(predictions, targets, strict=True)]
