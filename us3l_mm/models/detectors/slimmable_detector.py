"""One detector for all widths."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmdet.models import BaseDetector
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from us3l_mm.models.multi_width import MicroBatch, MultiWidthTraining
from us3l_mm.registry import MODELS
from us3l_mm.slim import (
    SlimmableLayer,
    Width,
    check_dict,
    check_number,
    check_width,
    dense_layers,
    trace_channels,
)

from .distillation import box_distance, class_divergence, feature_distance

DISTILL = ('feature', 'cls', 'box')


@MODELS.register_module()
class SlimmableDetector(MultiWidthTraining, BaseDetector):
    """Any mmdet detector with slimmable backbone and neck, trained at several widths each iteration.

    The instance is a ``SlimmableDetector`` and a detector of the stock class at once, so that configs and
    checkpoint keys are those of mmdet. Every width takes the detector's own loss; all but the widest also
    imitate the widest one (in-place distillation).

    Heads are shared by all widths and stay full. A neck with ``conv_cfg=dict(type='us3l_mm.SlimmableConv2d',
    slim_out=False)`` gives features of full width, which every head reads. Without ``slim_out=False`` the neck
    gets narrow too, and the head must read fewer channels: a dense head that takes ``conv_cfg`` for all of its
    first layers, such as RetinaHead, can with the same ``conv_cfg``.

    Args:
        detector (str): Stock detector, such as ``'RetinaNet'``.
        sampler (dict, optional): Arguments of :class:`us3l_mm.slim.WidthSampler`, or of another ``type``.
        distill (dict, optional): Weights of what the narrower widths learn from the widest: ``feature``, see
            :func:`feature_distance`, ``cls``, :func:`class_divergence`, and ``box``, :func:`box_distance`. The
            last two compare the outputs of the dense head, the RPN of two-stage detectors, whose RoI head takes
            its own loss only. Defaults to None: no distillation.
        group_reg (dict, optional): As for :class:`US3L`.
        update (str): As for :class:`US3L`. Defaults to ``'accumulate'``.
        by_epoch (bool): As for :class:`US3L`.
        **kwargs: As for the stock detector.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option is out of its range, backbone or neck cannot run at the lowest width, the heads cannot
            read a narrow neck or have batch norm, or there are no class outputs to distil.

    Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019 (sandwich
    rule, in-place distillation); :mod:`us3l_mm.models.detectors.distillation` for what is imitated.
    """

    def __new__(cls, *args, detector: str | type | None = None, **kwargs) -> 'SlimmableDetector':
        """Create an instance of a class that derives from this one and the stock ``detector``."""
        if cls is SlimmableDetector:  # an instance that is copied has its class already
            cls = type(cls.__name__, (cls, _stock_class(detector)), {'__module__': __name__})
        return super().__new__(cls)

    def __init__(
        self,
        detector: str,
        sampler: dict | None = None,
        distill: dict[str, float] | None = None,
        group_reg: dict | None = None,
        update: str = 'accumulate',
        by_epoch: bool = True,
        **kwargs,
    ) -> None:
        distill = {} if distill is None else check_dict('distill', distill)
        for name, weight in distill.items():
            check_number(f'distill.{name}', weight, '[0, inf)')
        super().__init__(**kwargs)
        self.distill = {name: weight for name, weight in distill.items() if weight}
        self.slimmable_parts = ('backbone', 'neck') if self.with_neck else ('backbone',)
        self.set_training(sampler, group_reg, update, by_epoch)
        self._check_parts()

    @property
    def dense_head(self) -> Any:
        """Head that predicts at every position, the RPN of two-stage detectors; None if there is none."""
        return getattr(self, 'rpn_head', getattr(self, 'bbox_head', None))

    def loss(self, inputs: Tensor, data_samples: list, target: dict[str, Any] | None = None) -> dict[str, Any]:
        """Loss at the current width.

        Args:
            inputs (Tensor): Images of shape (N, 3, H, W).
            data_samples (list[DetDataSample]): With ``gt_instances``.
            target (dict, optional): ``outputs`` of the widest, to imitate.

        Returns:
            dict: ``loss``, a scalar, and ``outputs``, without gradient: ``features`` of each level, outputs of
            the dense ``head`` and the single ``losses`` by name.
        """
        with ExitStack() as stack:
            features = stack.enter_context(_recorded(self.neck if self.with_neck else self.backbone))
            head = stack.enter_context(_recorded(self.dense_head))
            loss, losses = self.parse_losses(super().loss(inputs, data_samples))
        found = dict(features=features, head=head)
        if target is not None:
            loss = loss + sum(weight * self._distance(name, found, target) for name, weight in self.distill.items())
        return dict(loss=loss, outputs=_detached({**found, 'losses': dict(losses)}))

    def loss_arguments(self, batch: MicroBatch, width: float) -> dict:
        """Pass the outputs of the widest width, if they are to be imitated."""
        return dict(target=batch.widest if self.distill else None)

    def extra_logs(self, outputs: dict[str, Any]) -> dict[str, Tensor]:
        """Log each loss of the widest width."""
        return {f'{name}_widest': value for name, value in outputs['losses'].items() if name != 'loss'}

    def dense(self, width: Width, with_statistics: bool = True) -> BaseDetector:
        """Convert to the stock detector of one width, which shares no memory.

        Args:
            width (Width): Width multiplier, in (0, 1], or those of parts of :meth:`slimmable_part`, such as
                ``{'backbone.layer4': 0.5, 'neck': 1.0}``.
            with_statistics (bool): Whether batch norms take the calibrated statistics of that width.

        Raises:
            RuntimeError: If ``with_statistics`` and the width is not calibrated.
        """
        of_backbone = _of_backbone(check_width(width))
        part = self.slimmable_part()
        channels, features = trace_channels(part, width)
        layers = dense_layers(part, width, channels, with_statistics)
        narrow_head = _is_slimmable(self.dense_head)
        if narrow_head:
            head = _SameLevels(self.dense_head, len(features))
            layers |= dense_layers(head, 1.0, trace_channels(head, 1.0, features[0])[0], with_statistics)
        plain = copy.deepcopy(self, layers)
        plain.__class__ = type(self).__bases__[1]
        plain.backbone.width = of_backbone
        plain.backbone.out_channels = self.backbone.channels_at(of_backbone)
        if self.with_neck:
            plain.neck.out_channels = features[0].size(1)
        if narrow_head:
            plain.bbox_head.in_channels = features[0].size(1)
        return plain

    def _distance(self, name: str, found: dict[str, Any], target: dict[str, Any]) -> Tensor:
        """Compute the distillation loss ``name``, one of :data:`DISTILL`."""
        if name == 'feature':
            return feature_distance(found['features'], target['features'])
        if name == 'cls':
            return class_divergence(found['head'][0], target['head'][0])
        classes = self.dense_head.cls_out_channels
        return box_distance(found['head'][1], target['head'][1], target['head'][0], classes)

    def _check_parts(self) -> None:
        """Raise ValueError if training would fail or go wrong."""
        kind, head = type(self).__bases__[1].__name__, self.dense_head
        if not self.distill.keys() <= set(DISTILL):
            raise ValueError(f'distill must give weights of {DISTILL}, got {self.distill}')
        if self.distill.keys() & {'cls', 'box'} and not (
            isinstance(head, BaseDenseHead) and getattr(head, 'use_sigmoid_cls', False)
        ):
            raise ValueError(
                f'distill of cls and box needs a dense head with sigmoid class scores, which '
                f'{type(head).__name__} of {kind} is not; give a weight to `feature` only'
            )
        part = self.slimmable_part()
        if not _is_slimmable(self.backbone):
            raise ValueError(
                f'the backbone of {kind}, {type(self.backbone).__name__}, has no slimmable layer; use one such as '
                "'us3l_mm.SlimmableResNet', with width=None"
            )
        norms = set(self.modules()) - set(part.modules())
        if any(isinstance(layer, _BatchNorm) for layer in norms):
            raise ValueError(
                f'batch norm in the heads of {kind} would mix the statistics of different widths; use '
                "norm_cfg=dict(type='GN', num_groups=32), or none"
            )
        channels = [
            [level.size(1) for level in trace_channels(part, width)[1]] for width in (1.0, self.sampler.width_range[0])
        ]
        if channels[0] != channels[1] and (hasattr(self, 'roi_head') or not _is_slimmable(head)):
            raise ValueError(
                f'the heads of {kind} read {channels[0]} channels, but get {channels[1]} at width '
                f'{self.sampler.width_range[0]:g}; set slim_out=False in the conv_cfg of the neck, or give '
                'a one-stage bbox_head the same conv_cfg as the neck'
            )


class _SameLevels(nn.Module):
    """Run a dense head on one input, which stands for every level."""

    def __init__(self, head: nn.Module, num_levels: int) -> None:
        super().__init__()
        self.head = head
        self.num_levels = num_levels

    def forward(self, x: Tensor) -> Any:
        return self.head((x,) * self.num_levels)


def _stock_class(detector: str | type | None) -> type:
    """Find the class of mmdet that ``detector`` names, with or without the scope mmdet."""
    found = detector
    if isinstance(detector, str) and detector:
        with MODELS.switch_scope_and_registry(None) as registry:
            found = registry.get(detector) or registry.get(f'mmdet.{detector}')
    if not (isinstance(found, type) and issubclass(found, BaseDetector)):
        raise ValueError(f"detector must name a detector of mmdet, such as 'RetinaNet', got {detector!r}")
    return found


def _is_slimmable(module: nn.Module | None) -> bool:
    return module is not None and any(isinstance(layer, SlimmableLayer) for layer in module.modules())


@contextmanager
def _recorded(module: nn.Module | None) -> Iterator[list]:
    """Record what ``module`` returns in a block, since the loss of a detector does not return it."""
    found: list = []
    handles = [] if module is None else [module.register_forward_hook(lambda _, __, output: found.extend(output))]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _detached(node: Any) -> Any:
    """Detach the tensors in nested dicts and lists."""
    if isinstance(node, dict):
        return {name: _detached(item) for name, item in node.items()}
    if isinstance(node, (list, tuple)):
        return [_detached(item) for item in node]
    return node.detach() if isinstance(node, torch.Tensor) else node


def _of_backbone(width: Width) -> Width:
    """Width of the backbone, or of its parts, within a width of the detector."""
    if not isinstance(width, Mapping):
        return width
    parts = {name: value for name, value in width.items() if name.split('.')[0] == 'backbone'}
    if 'backbone' not in parts:
        return {name.removeprefix('backbone.'): value for name, value in parts.items()} or 1.0
    if len(parts) > 1:
        raise ValueError(f'name the backbone or parts of it, not both, got {sorted(parts)}')
    return parts['backbone']
