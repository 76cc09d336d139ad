"""US3L: universally slimmable self-supervised learning.

Shapes: N images of H x W pixels in each of two views, D embedding dimensions.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from us3l_mm.models.group_reg import GroupRegularizer
from us3l_mm.models.teacher import MomentumTeacher
from us3l_mm.registry import MODELS
from us3l_mm.slim import WidthSampler, use_width


def feature_std(embedding: Tensor) -> Tensor:
    """Standard deviation of the L2-normalised (N, D) embedding times sqrt(D): near 1 is healthy, 0 is collapse.

    Source: Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021.
    """
    return F.normalize(embedding.float(), dim=1).std(dim=0).mean() * embedding.size(1) ** 0.5


@MODELS.register_module()
class US3L(BaseSelfSupervisor):
    """One set of weights for all widths, pretrained without labels.

    Each iteration draws widths. The widest takes the base loss, the others the distillation loss, each
    against the embedding of the other view. Without a distillation loss all widths take the base loss.

    Args:
        backbone (dict): Slimmable backbone.
        neck (dict): Projector, such as :class:`SlimmableNonLinearNeck`.
        head (dict): Base loss and its predictor: mmpretrain's ``LatentPredictHead``; with the predictor
            ``torch.nn.Identity`` for a loss without one.
        distill_loss (dict, optional): Loss of the narrower widths. Defaults to None.
        distill_predictor (dict, optional): Auxiliary distillation head. Defaults to None: the distillation
            loss is taken behind the base predictor.
        sampler (dict, optional): Arguments of :class:`us3l_mm.slim.WidthSampler`.
        base_target (str): Where the target of the widest network comes from: ``'momentum'`` (the teacher)
            or ``'online'`` (its own embedding, without gradient).
        sub_target (str): The same for the others, where ``'online'`` is the embedding of the widest network
            of this iteration; their own without a distillation loss.
        momentum (float): Momentum of the teacher. Defaults to 0.99.
        group_reg (dict, optional): Arguments of :class:`GroupRegularizer`. Defaults to None; if given,
            the optimizer's weight decay should be 0.
        update (str): ``'per_width'`` updates the weights after each width, ``'accumulate'`` once an
            iteration, on the summed gradients.
        by_epoch (bool): Whether the stages of the sampler are counted in epochs; set it as in ``train_cfg``.
        pretrained (str, optional): As for ``BaseSelfSupervisor``.
        data_preprocessor (dict, optional): As for ``BaseSelfSupervisor``.
        init_cfg (dict, optional): As for ``BaseSelfSupervisor``.

    Raises:
        ValueError: If an option is not one of those named.

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
        group_reg: dict | None = None,
        update: str = 'per_width',
        by_epoch: bool = True,
        pretrained: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(backbone, neck, head, None, pretrained, data_preprocessor, init_cfg)
        for name, value, options in (
            ('base_target', base_target, ('momentum', 'online')),
            ('sub_target', sub_target, ('momentum', 'online')),
            ('update', update, ('per_width', 'accumulate')),
        ):
            if value not in options:
                raise ValueError(f'{name} must be one of {options}, got {value!r}')
        if distill_predictor is not None and distill_loss is None:
            raise ValueError('distill_predictor needs a distill_loss: without one no width uses it')
        self.distill_loss = None if distill_loss is None else MODELS.build(distill_loss)
        self.distill_predictor = None if distill_predictor is None else MODELS.build(distill_predictor)
        self.sampler = WidthSampler(**(sampler or {}))
        self.base_target = base_target
        self.sub_target = sub_target
        self.teacher = None
        if 'momentum' in (base_target, sub_target):
            self.teacher = MomentumTeacher(self.backbone, self.neck, momentum)
        self.group_reg = None if group_reg is None else GroupRegularizer(**group_reg)
        self.update = update
        self.by_epoch = by_epoch

    def init_weights(self) -> None:
        """Initialise the online networks, and the teacher as their copy."""
        super().init_weights()
        if self.teacher is not None:
            self.teacher.update(self.backbone, self.neck, momentum=0)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """A checkpoint without a teacher, such as one of another method, starts it as a copy of the online nets."""
        if self.teacher is not None and not any(key.startswith(f'{prefix}teacher.') for key in state_dict):
            for key in [key for key in state_dict if key.startswith((f'{prefix}backbone.', f'{prefix}neck.'))]:
                state_dict[f'{prefix}teacher.{key.removeprefix(prefix)}'] = state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor', **kwargs) -> Any:
        """As for ``BaseSelfSupervisor``; with ``mode='loss'``, the arguments of :meth:`loss`.

        Raises:
            RuntimeError: If a loss is asked for outside :meth:`run_step`, which would train one width only.
        """
        if mode != 'loss':
            return super().forward(inputs, data_samples, mode)
        if 'targets' not in kwargs:
            raise RuntimeError(
                'US3L takes several updates an iteration, in its own train_step. For distributed training set '
                "model_wrapper_cfg = dict(type='us3l_mm.US3LDistributedDataParallel')"
            )
        return self.loss(inputs, data_samples, **kwargs)

    def loss(
        self,
        inputs: list[Tensor],
        data_samples: Any,
        targets: list[Tensor] | None,
        distill: bool = False,
    ) -> dict[str, Any]:
        """Loss at the width now in force.

        Args:
            inputs (list[Tensor]): Two views of shape (N, 3, H, W).
            data_samples (Any): Not used.
            targets (list[Tensor], optional): Target of each view, (N, D); None for the embedding of the other
                view, without gradient.
            distill (bool): Whether to take the distillation loss.

        Returns:
            dict: ``loss``, a scalar, and ``embeddings``, one of shape (N, D) for each view, without gradient.
        """
        embeddings = [self.neck(self.backbone(view))[0] for view in inputs]
        targets = [z.detach() for z in embeddings] if targets is None else targets
        if distill:
            predictor = self.head.predictor if self.distill_predictor is None else self.distill_predictor
            losses = [self.distill_loss(predictor([z])[0], t) for z, t in zip(embeddings, targets[::-1])]
        else:
            losses = [self.head.loss(z, t) for z, t in zip(embeddings, targets[::-1])]
        return dict(loss=sum(losses) / 2, embeddings=[z.detach() for z in embeddings])

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """One iteration on one process; see :meth:`run_step`."""
        return self.run_step(data, optim_wrapper, self)

    def run_step(self, data: Any, optim_wrapper: OptimWrapper, model: nn.Module) -> dict[str, Any]:
        """One iteration: draw widths, move the teacher, then train each width.

        Args:
            data (Any): Batch of the data loader.
            optim_wrapper (OptimWrapper): Optimizer wrapper.
            model (nn.Module): What forward passes go through: the model itself or its DDP wrapper.

        Returns:
            dict: Values to log: losses by role, penalty, widths, standard deviation of the features.

        Raises:
            RuntimeError: If no Runner tells the iteration.
            ValueError: If there are not two views, or fewer than two images.
        """
        if getattr(optim_wrapper, '_accumulative_counts', 1) != 1:
            raise ValueError('accumulative_counts must be 1: US3L has its own schedule of updates, see `update`')
        views = self._views(data, optim_wrapper, model)
        iteration, max_iters, epoch, max_epochs = self._progress()
        widths = self.sampler(iteration, epoch, max_epochs)
        if self.teacher is not None:
            self.teacher.update(self.backbone, self.neck)
        losses, known, logs = [], {}, {}
        for index, width in enumerate(widths):
            last = index == len(widths) - 1
            updates = last or self.update == 'per_width'
            sync = nullcontext() if updates or model is self else model.no_sync()
            with sync, use_width(self.backbone, width):
                with optim_wrapper.optim_context(model):
                    outputs = model(
                        views,
                        mode='loss',
                        targets=self._targets(views, width, index > 0, known),
                        distill=index > 0 and self.distill_loss is not None,
                    )
                optim_wrapper.backward(outputs['loss'])  # in the scope: checkpointing runs the forward again
            losses.append(outputs['loss'].detach())
            if index == 0:
                known['widest'] = outputs['embeddings']
                logs['feature_std'] = feature_std(outputs['embeddings'][0])
            if updates:
                if self.group_reg is not None:
                    penalty = self._add_penalty(optim_wrapper, iteration / max_iters, heads=width < 1)
                    logs.setdefault('group_reg', penalty)
                optim_wrapper.step()
                optim_wrapper.zero_grad()
        return {**_by_role(widths, losses), **logs}

    def _views(self, data: Any, optim_wrapper: OptimWrapper, model: nn.Module) -> list[Tensor]:
        with optim_wrapper.optim_context(model):
            views = self.data_preprocessor(data, True)['inputs']
        if not isinstance(views, (list, tuple)) or len(views) != 2:
            got = len(views) if isinstance(views, (list, tuple)) else 'a single tensor'
            raise ValueError(f'US3L needs two views of each image, got {got}; see the MultiView transform')
        if len(views[0]) < 2:
            raise ValueError(
                'batch norm needs at least 2 images per process, got 1; raise batch_size, or set drop_last=True '
                'if this was the last batch of an epoch'
            )
        return views

    def _progress(self) -> tuple[int, int, int, int]:
        """Iteration and its maximum, then stage clock and its maximum: epochs or iterations."""
        hub = MessageHub.get_current_instance()
        names = ('iter', 'max_iters', *(('epoch', 'max_epochs') if self.by_epoch else ('iter', 'max_iters')))
        values = tuple(hub.get_info(name) for name in names)
        if None in values:
            raise RuntimeError(
                f'US3L takes the time of training from the Runner, which has not told {names[values.index(None)]!r}; '
                'train it by a Runner'
            )
        return values

    def _targets(self, views: list[Tensor], width: float, sub: bool, known: dict) -> list[Tensor] | None:
        """Target of each view, None for the network's own embedding; ``known`` keeps those of this iteration."""
        distills = self.distill_loss is not None
        if (self.sub_target if sub else self.base_target) == 'online':
            return known['widest'] if sub and distills else None
        width = 1.0 if distills else width
        if width not in known:
            with use_width(self.teacher, width):
                known[width] = [self.teacher(view) for view in views]
        return known[width]

    def _add_penalty(self, optim_wrapper: OptimWrapper, progress: float, heads: bool) -> Tensor:
        parts = [self.backbone, self.neck, *((self.head, self.distill_predictor) if heads else ())]
        parameters = [p for part in parts if part is not None for p in part.parameters() if p.requires_grad]
        scaler = getattr(optim_wrapper, 'loss_scaler', None)
        scale = None if scaler is None else scaler.scale(parameters[0].new_ones(()))
        return self.group_reg.add_gradient(parameters, progress, scale)


def _by_role(widths: list[float], losses: list[Tensor]) -> dict[str, Any]:
    """Losses and widths of the widest, the narrowest and the widths between, which are averaged."""
    logs: dict[str, Any] = {'loss': sum(losses), 'loss_widest': losses[0], 'width_widest': widths[0]}
    if len(widths) > 1:
        logs.update(loss_narrowest=losses[-1], width_narrowest=widths[-1])
    if len(widths) > 2:
        between = slice(1, -1)
        logs['loss_random'] = torch.stack(losses[between]).mean()
        logs['width_random'] = sum(widths[between]) / (len(widths) - 2)
    return logs
