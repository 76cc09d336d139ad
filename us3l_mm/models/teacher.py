"""Momentum teacher."""

import copy

import torch
from torch import Tensor, nn


class MomentumTeacher(nn.Module):
    """Exponential moving average of an online backbone and neck, without gradient.

    Only parameters are averaged. Unlike mmengine's ``ExponentialMovingAverage`` it keeps no step counter,
    whose reading would stall a GPU at every iteration, and updates all parameters in one call.

    Args:
        backbone (nn.Module): Online backbone; copied.
        neck (nn.Module): Online projector; copied.
        momentum (float): m of ``k <- m k + (1 - m) q``.

    Raises:
        ValueError: If ``momentum`` is outside [0, 1].

    Source: He et al., "Momentum Contrast", CVPR 2020.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, momentum: float = 0.99) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum must be in [0, 1], got {momentum}')
        self.backbone = copy.deepcopy(backbone)
        self.neck = copy.deepcopy(neck)
        self.momentum = momentum
        self.requires_grad_(False)

    @torch.no_grad()
    def update(self, backbone: nn.Module, neck: nn.Module, momentum: float | None = None) -> None:
        """Move towards the online networks; ``momentum=0`` copies them."""
        momentum = self.momentum if momentum is None else momentum
        online = [*backbone.parameters(), *neck.parameters()]
        torch._foreach_lerp_(list(self.parameters()), online, 1 - momentum)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Embed images (N, 3, H, W) as (N, D)."""
        return self.neck(self.backbone(x))[0]
