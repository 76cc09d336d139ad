"""Distillation of a frozen teacher into a student, without labels.

Shapes: N images of H x W pixels in each view, D embedding dimensions.
"""

from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from us3l_mm.registry import MODELS
from us3l_mm.slim import check_dict, check_part
from us3l_mm.utils.match_checkpoint import match_checkpoint

from .parts import check_parts


@MODELS.register_module()
class SEED(BaseSelfSupervisor):
    """Distil the embeddings of a frozen teacher into a student of another size, view by view.

    With ``SEEDLoss`` in the head it is SEED, with ``CosineSimilarityLoss`` and a predictor SEED-MSE. The
    student has one width, set by ``backbone.width``.

    Args:
        backbone (dict): Backbone of the student.
        neck (dict): Projector of the student, to the dimension of the teacher's or of the predictor.
        head (dict): ``LatentPredictHead`` with the loss and the predictor.
        teacher (dict): ``backbone`` and ``neck`` of the teacher, and the ``checkpoint`` of a model that has both
            under these names, calibrated.
        pretrained, data_preprocessor, init_cfg: As for ``BaseSelfSupervisor``.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If ``teacher`` lacks an entry.

    Source: Fang et al., "SEED: Self-supervised Distillation For Visual Representation", ICLR 2021; SEED-MSE:
    Cao et al., CVPR 2023.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        teacher: dict,
        pretrained: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        check_dict('teacher', teacher, 'backbone', 'neck', 'checkpoint')
        check_parts(backbone, neck, head, data_preprocessor)
        for name in ('backbone', 'neck'):
            check_part(f'teacher.{name}', teacher[name])
        super().__init__(backbone, neck, head, None, pretrained, data_preprocessor, init_cfg)
        self.teacher = nn.ModuleDict(
            dict(backbone=MODELS.build(teacher['backbone']), neck=MODELS.build(teacher['neck']))
        )
        self.teacher.requires_grad_(False)
        self.teacher_checkpoint = teacher['checkpoint']

    def init_weights(self) -> None:
        """Initialise the student and load the teacher.

        Raises:
            RuntimeError: If the checkpoint does not fit exactly.
        """
        super().init_weights()
        checkpoint = CheckpointLoader.load_checkpoint(self.teacher_checkpoint, map_location='cpu')
        state = match_checkpoint(checkpoint, self.teacher, self.teacher_checkpoint).state
        for name, part in self.teacher.items():
            own = {key.removeprefix(f'{name}.'): value for key, value in state.items() if key.startswith(f'{name}.')}
            try:
                if not own:
                    raise RuntimeError(f'it has no entry that starts with {name!r}, only {sorted(state)[:3]} ...')
                part.load_state_dict(own, strict=True)
            except RuntimeError as error:
                raise RuntimeError(
                    f'{self.teacher_checkpoint} is no checkpoint of this teacher: its {name} does not fit: {error}'
                ) from error

    def train(self, mode: bool = True) -> 'SEED':
        """Set the mode of the student; the teacher is always in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, inputs: list[Tensor], data_samples: Any, **kwargs) -> dict[str, Tensor]:
        """Mean loss over the views, each a tensor of shape (N, 3, H, W)."""
        losses = []
        for view in inputs:
            with torch.no_grad():
                target = self.teacher['neck'](self.teacher['backbone'](view))[0]  # (N, D)
            losses.append(self.head.loss(self.neck(self.backbone(view))[0], target))
        return dict(loss=sum(losses) / len(losses))
