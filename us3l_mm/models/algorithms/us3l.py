"""US3L: universally slimmable self-supervised learning.

Shapes: N images of H x W pixels in each of two views, D embedding dimensions.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from mmpretrain.models.heads import LatentPredictHead
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from us3l_mm.models.losses import view_losses
from us3l_mm.models.multi_width import Iteration, MicroBatch, MultiWidthTraining
from us3l_mm.registry import MODELS
from us3l_mm.slim import check_choice, check_number, check_part

from .parts import check_parts
from .teacher import MomentumTeacher, check_momentum


def feature_std(embedding: Tensor) -> Tensor:
    """Standard deviation of the L2-normalised (N, D) embedding times sqrt(D): near 1 is healthy, 0 is collapse.

    Source: Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021.
    """
    return F.normalize(embedding.float(), dim=1).std(dim=0).mean() * embedding.size(1) ** 0.5


def _build(name: str, part: dict | None) -> nn.Module | None:
    """Build an optional part."""
    return None if part is None else MODELS.build(check_part(name, part))


@MODELS.register_module()
class US3L(MultiWidthTraining, BaseSelfSupervisor):
    """Pretrain one set of weights for all widths, without labels.

    Each iteration draws widths. The widest takes the base loss, the others the distillation loss, each
    against the embedding of the other view. Without a distillation loss all widths take the base loss.

    Args:
        backbone (dict): Slimmable backbone.
        neck (dict): Projector, such as :class:`SlimmableNonLinearNeck`.
        head (dict): Base loss and its predictor: mmpretrain's ``LatentPredictHead``; with the predictor
            ``torch.nn.Identity`` for a loss without one.
        distill_loss (dict, optional): Loss of the narrower widths. Defaults to None.
        distill_predictor (dict, optional): Auxiliary distillation head. Defaults to None: the base predictor.
        sampler (dict, optional): Arguments of :class:`us3l_mm.slim.WidthSampler`, or of another ``type``.
        base_target (str): Target of the widest network: ``'momentum'``, the embedding of the teacher, or
            ``'online'``, its own without gradient.
        sub_target (str): Target of the others: ``'momentum'``, or ``'online'``, the embedding of the widest network or,
            without a distillation loss, their own.
        momentum (float): Momentum of the teacher. Defaults to 0.99.
        momentum_end (float, optional): Momentum at the end of training, reached by a cosine. Defaults to None:
            constant.
        same_view_weight (float): Share of the distillation loss that is taken against the target of the same
            view rather than of the other one (POA, ECCV 2024). Defaults to 0, as published.
        width_power (float): Multiplies the loss of width w by ``w ** width_power`` (SlimCLR, Zhao et al., 2022,
            weights losses by the size of the network), from -10 to 10. Defaults to 0, as published.
        group_reg (dict, optional): Arguments of :class:`GroupRegularizer`. Defaults to None; if given,
            the optimizer's weight decay should be 0.
        update (str): ``'per_width'`` updates the weights after each width, ``'accumulate'`` once an
            iteration, on the summed gradients.
        by_epoch (bool): Whether the stages of the sampler are counted in epochs; set it as in ``train_cfg``.
        micro_batches (int): Number of equal micro batches in the batch of each process. Each update is on their
            mean loss; batch norm and NCE see one at a time. Defaults to 1.
        speed (str): ``'eager'``; ``'graphs'``, passes of each width as CUDA graphs, on one GPU; or ``'compiled'``, by
            :func:`torch.compile`, on a GPU as graphs too. The last two need ``width_step`` or ``widths`` of the
            sampler. Defaults to ``'eager'``.
        pretrained, data_preprocessor, init_cfg: As for ``BaseSelfSupervisor``.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If one is out of its range.

    Source: Cao, Sun and Zhou, "Three Guidelines You Should Know for Universally Slimmable Self-Supervised
    Learning", CVPR 2023.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        distill_loss: dict | None = None,
        distill_predictor: dict | None = None,
        sampler: dict | None = None,
        base_target: str = 'momentum',
        sub_target: str = 'momentum',
        momentum: float = 0.99,
        momentum_end: float | None = None,
        same_view_weight: float = 0.0,
        width_power: float = 0.0,
        group_reg: dict | None = None,
        update: str = 'per_width',
        by_epoch: bool = True,
        micro_batches: int = 1,
        speed: str = 'eager',
        pretrained: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        check_parts(backbone, neck, head, data_preprocessor)
        super().__init__(backbone, neck, head, None, pretrained, data_preprocessor, init_cfg)
        self.same_view_weight = check_number('same_view_weight', same_view_weight, '[0, 1]')
        for option, given in (('distill_predictor', distill_predictor), ('same_view_weight', same_view_weight or None)):
            if given is not None and distill_loss is None:
                raise ValueError(f'{option} needs a distill_loss: without one no width uses it')
        self.set_training(sampler, group_reg, update, by_epoch, micro_batches, speed)
        self.distill_loss = _build('distill_loss', distill_loss)
        self.distill_predictor = _build('distill_predictor', distill_predictor)
        self.base_target = check_choice('base_target', base_target, ('momentum', 'online'))
        self.sub_target = check_choice('sub_target', sub_target, ('momentum', 'online'))
        self.width_power = check_number('width_power', width_power, '[-10, 10]')
        check_momentum(momentum, momentum_end)
        self.teacher: MomentumTeacher | None = None
        if 'momentum' in (base_target, sub_target):
            self.teacher = MomentumTeacher(self.backbone, self.neck, momentum, momentum_end)
            if speed == 'compiled':
                self.teacher.compile(dynamic=False)

    def init_weights(self) -> None:
        """Initialise the online networks, and the teacher as their copy."""
        super().init_weights()
        if self.teacher is not None:
            self.teacher.update(self.backbone, self.neck, momentum=0)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Start the teacher as a copy of the online nets, if the checkpoint has none."""
        if self.teacher is not None and not any(key.startswith(f'{prefix}teacher.') for key in state_dict):
            for key in [key for key in state_dict if key.startswith((f'{prefix}backbone.', f'{prefix}neck.'))]:
                state_dict[f'{prefix}teacher.{key.removeprefix(prefix)}'] = state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def loss(
        self,
        inputs: list[Tensor],
        data_samples: Any,
        targets: list[Tensor] | None,
        distill: bool = False,
        weight: float = 1.0,
    ) -> dict[str, Any]:
        """Loss at the current width.

        Args:
            inputs (list[Tensor]): Two views of shape (N, 3, H, W).
            data_samples (Any): Not used.
            targets (list[Tensor], optional): Target of each view, (N, D); None for the embedding of the other
                view, without gradient.
            distill (bool): Whether to take the distillation loss.
            weight (float): Factor of the loss.

        Returns:
            dict: ``loss``, a scalar, and ``outputs``, the embeddings of each view, (N, D), without gradient.
        """
        embeddings = [self.neck(self.backbone(view))[0] for view in inputs]
        targets = [z.detach() for z in embeddings] if targets is None else targets
        same_view = distill and self.same_view_weight
        pairs = [*targets[::-1], *targets] if same_view else targets[::-1]
        losses = self._view_losses(embeddings, pairs, distill)
        if same_view:
            losses = [cross.lerp(same, self.same_view_weight) for cross, same in zip(losses[:2], losses[2:])]
        return dict(loss=weight * sum(losses) / 2, outputs=[z.detach() for z in embeddings])

    def _view_losses(self, embeddings: list[Tensor], targets: list[Tensor], distill: bool) -> list[Tensor]:
        """Loss of each target with the embedding of view 1, 2, 1, 2, ... in turn, all (N, D)."""
        loss = self.distill_loss if distill else None
        predictor = self.distill_predictor if distill else None
        if loss is None and getattr(type(self.head), 'loss', None) is not LatentPredictHead.loss:
            return [self.head.loss(z, target) for z, target in zip(embeddings, targets)]
        loss = self.head.loss_module if loss is None else loss
        predictor = self.head.predictor if predictor is None else predictor
        predictions = [predictor([z])[0] for z in embeddings]
        return view_losses(loss, predictions * (len(targets) // len(predictions)), targets)

    def start_iteration(self, iteration: Iteration) -> None:
        """Check the views and move the teacher.

        Raises:
            ValueError: If there are not two views, or fewer than two images.
        """
        for batch in iteration.micro_batches:
            views = batch.inputs
            if not isinstance(views, (list, tuple)) or len(views) != 2:
                got = len(views) if isinstance(views, (list, tuple)) else 'a single tensor'
                raise ValueError(f'US3L needs two views of each image, got {got}; see the MultiView transform')
            if len(views[0]) < 2:
                raise ValueError(
                    f'batch norm needs at least 2 images per process and micro batch, got {len(views[0])}; raise '
                    'batch_size, lower micro_batches, or set drop_last=True if this was the last batch of an epoch'
                )
        if self.teacher is not None:
            self.teacher.update(self.backbone, self.neck, self.teacher.momentum_at(iteration.progress))

    def loss_arguments(self, batch: MicroBatch, width: float) -> dict:
        """Choose the loss and the target of each view."""
        narrower, distills = batch.widest is not None, self.distill_loss is not None
        arguments = dict(distill=narrower and distills, weight=width**self.width_power)
        if (self.sub_target if narrower else self.base_target) == 'online' or self.teacher is None:
            return dict(arguments, targets=batch.widest if narrower and distills else None)
        at = 1.0 if distills else width
        if at not in batch.targets:
            if self.on_pass is not None:
                self.on_pass('teacher', at, batch.inputs)
            batch.targets[at] = self.run_pass(('teacher', at), partial(self.teacher.targets, width=at), batch.inputs)
        return dict(arguments, targets=batch.targets[at])

    def extra_logs(self, outputs: list[Tensor]) -> dict[str, Tensor]:
        """Log the standard deviation of the features, which falls in a collapse."""
        return dict(feature_std=feature_std(outputs[0]))

    def penalised(self, width: float) -> list[nn.Module]:
        """Penalise the online networks, below width 1.0 also the prediction heads."""
        heads = [self.head, self.distill_predictor] if width < 1 else []
        return [self.backbone, self.neck, *(part for part in heads if part is not None)]
