"""Momentum teacher."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from us3l_mm.slim import check_number, use_width


def check_momentum(momentum: float, momentum_end: float | None) -> None:
    """Raise an error unless both are numbers in [0, 1]; ``momentum_end`` may be None."""
    check_number('momentum', momentum, '[0, 1]')
    if momentum_end is not None:
        check_number('momentum_end', momentum_end, '[0, 1]')


class MomentumTeacher(nn.Module):
    """Exponential moving average of an online backbone and neck, without gradient.

    Only parameters are averaged. Unlike mmengine's ``ExponentialMovingAverage`` it keeps no step counter,
    which would make the CPU wait for the GPU at every iteration, and updates all parameters in one call.

    Args:
        backbone (nn.Module): Online backbone; copied.
        neck (nn.Module): Online projector; copied.
        momentum (float): m of ``k <- m k + (1 - m) q``.
        momentum_end (float, optional): m at the end of training. Defaults to None: constant.

    Raises:
        TypeError: If a momentum is no number.
        ValueError: If it is outside [0, 1].

    Source: He et al., "Momentum Contrast", CVPR 2020.
    """

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, momentum: float = 0.99, momentum_end: float | None = None
    ) -> None:
        super().__init__()
        check_momentum(momentum, momentum_end)
        self.backbone = copy.deepcopy(backbone)
        self.neck = copy.deepcopy(neck)
        self.momentum = momentum
        self.momentum_end = momentum if momentum_end is None else momentum_end
        self.requires_grad_(False)

    def momentum_at(self, progress: float) -> float:
        """Momentum at a fraction ``progress`` of training: half a cosine from ``momentum`` to ``momentum_end``.

        Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020; MoCo v3, ICCV 2021.
        """
        return self.momentum_end - (self.momentum_end - self.momentum) * (1 + math.cos(math.pi * progress)) / 2

    @torch.no_grad()
    def update(self, backbone: nn.Module, neck: nn.Module, momentum: float | None = None) -> None:
        """Move towards the online networks, by default with ``self.momentum``; ``momentum=0`` copies them."""
        momentum = self.momentum if momentum is None else momentum
        online: list[Tensor] = [*backbone.parameters(), *neck.parameters()]
        torch._foreach_lerp_(list(self.parameters()), online, 1 - momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images (N, 3, H, W) as (N, D)."""
        return self.neck(self.backbone(x))[0]

    def targets(self, views: Sequence[Tensor], width: float) -> list[Tensor]:
        """Embed views (N, 3, H, W) at a width as targets of a loss, (N, D) each, without gradient."""
        with use_width(self, width), torch.inference_mode():  # outside the compiled forward
            embeddings = [self(view) for view in views]
        return [embedding.clone() for embedding in embeddings]  # autograd refuses inference tensors
