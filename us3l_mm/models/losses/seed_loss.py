"""Loss of SEED.

Shapes: N images, D embedding dimensions, Q entries of the queue.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from torch import Tensor, nn

from us3l_mm.registry import MODELS
from us3l_mm.slim import check_count, check_number

from .nt_xent_loss import TEMPERATURES


def soft_similarity(
    student: Tensor, teacher: Tensor, queue: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    r"""Cross entropy between two distributions of similarity to the same embeddings.

    For image i these are its own teacher embedding and the queue, :math:`d \in \{t_i, d_1, ..., d_Q\}`, all
    L2-normalised:

    .. math:: -\frac{1}{N} \sum_i \sum_d \mathrm{softmax}_d(t_i d / T_t) \log \mathrm{softmax}_d(s_i d / T_s)

    Computed in at least float32, also under autocast.

    Args:
        student (Tensor): Outputs of shape (N, D).
        teacher (Tensor): Embeddings of shape (N, D); no gradient flows into them.
        queue (Tensor): Earlier embeddings of the teacher, L2-normalised, of shape (Q, D).
        student_temperature (float): :math:`T_s`.
        teacher_temperature (float): :math:`T_t`.

    Returns:
        Tensor: Scalar.

    Source: Fang et al., "SEED: Self-supervised Distillation For Visual Representation", ICLR 2021.
    """
    with torch.autocast(student.device.type, enabled=False):
        dtype = torch.promote_types(student.dtype, torch.float32)
        s, t = F.normalize(student.to(dtype)), F.normalize(teacher.detach().to(dtype))
        known = queue.to(dtype).T  # (D, Q)
        of_student = torch.cat([(s * t).sum(dim=1, keepdim=True), s @ known], dim=1)  # (N, 1 + Q)
        of_teacher = torch.cat([(t * t).sum(dim=1, keepdim=True), t @ known], dim=1)
        return F.cross_entropy(of_student / student_temperature, (of_teacher / teacher_temperature).softmax(dim=1))


@MODELS.register_module()
class SEEDLoss(nn.Module):
    """:func:`soft_similarity` with a queue of the teacher's embeddings of earlier batches.

    In training mode each call replaces the oldest entries by the batch of all processes. The queue starts with
    random directions and is saved in checkpoints.

    Args:
        queue_len (int): Q; a multiple of the number of images of all processes.
        feat_dim (int): D.
        student_temperature (float): At least 1e-6. Defaults to 0.5.
        teacher_temperature (float): At least 1e-6. Defaults to 1e-4.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of its range; in the forward pass, if the batch does not divide the queue.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(
        self, queue_len: int, feat_dim: int, student_temperature: float = 0.5, teacher_temperature: float = 1e-4
    ) -> None:
        super().__init__()
        check_count('queue_len', queue_len)
        check_count('feat_dim', feat_dim)
        self.student_temperature = check_number('student_temperature', student_temperature, TEMPERATURES)
        self.teacher_temperature = check_number('teacher_temperature', teacher_temperature, TEMPERATURES)
        self.register_buffer('queue', F.normalize(torch.randn(queue_len, feat_dim)))
        self.register_buffer('pointer', torch.zeros((), dtype=torch.long))

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of (N, D) outputs against (N, D) embeddings of the teacher."""
        loss = soft_similarity(pred, target, self.queue, self.student_temperature, self.teacher_temperature)
        if self.training:
            self._enqueue(target)
        return loss

    @torch.no_grad()
    def _enqueue(self, target: Tensor) -> None:
        batch = torch.cat(all_gather(F.normalize(target.detach()).to(self.queue)))
        if len(self.queue) % len(batch):
            raise ValueError(
                f'queue_len must be a multiple of the batch of all processes, got queue_len={len(self.queue)} and '
                f'{len(batch)} images; set drop_last=True and choose another queue_len or batch_size'
            )
        # By index on the device: reading the pointer would stall a GPU. Not in place: the loss needs the old queue.
        index = (self.pointer + torch.arange(len(batch), device=self.queue.device)) % len(self.queue)
        self.queue = self.queue.index_copy(0, index, batch)
        self.pointer += len(batch)
        self.pointer %= len(self.queue)
