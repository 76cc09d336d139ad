"""Group regularisation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from us3l_mm.slim import check_count, check_flag, check_number


def channel_groups(channels: int, num_groups: int, device: torch.device | str | None = None) -> Tensor:
    """Group of each channel, of shape (channels,): equal groups, the last with the remainder; of one at the least."""
    index = torch.arange(channels, device=device).div(max(1, channels // num_groups), rounding_mode='floor')
    return index.clamp(max=num_groups - 1)


class GroupRegularizer:
    """L2 penalty that is weaker on later channels and replaces weight decay.

    The outputs of a convolution weight and of 1-D tensors (batch norm, biases) fall into ``num_groups``
    equal groups, the last with the remainder. A weight w of group i adds ``coefficient * (1 - a * i) * w^2``
    to the loss; other tensors, such as linear weights, ``coefficient * w^2``. ``a`` grows linearly from 0
    to ``alpha`` between ``warmup`` and half of training, then stays.

    The gradient is added in closed form: no autograd graph is built.

    Args:
        coefficient (float): Half of the weight decay that it replaces, in [0, 1]. Defaults to 5e-5.
        alpha (float): Final a; below ``1 / (num_groups - 1)``. Defaults to 0.05.
        num_groups (int): Defaults to 8.
        warmup (float): Fraction of training, below 0.5, during which a is 0. Defaults to 0.
        linear_inputs (bool): Whether linear weights fall into groups of inputs, as suits a vision transformer,
            whose linear layers read fewer inputs at smaller widths. Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of its range.

    Source: Cao et al., CVPR 2023.
    """

    def __init__(
        self,
        coefficient: float = 5e-5,
        alpha: float = 0.05,
        num_groups: int = 8,
        warmup: float = 0.0,
        linear_inputs: bool = False,
    ) -> None:
        self.coefficient = check_number('coefficient', coefficient, '[0, 1]')
        self.num_groups = check_count('num_groups', num_groups)
        self.alpha = check_number('alpha', alpha, '[0, 1)')
        if alpha * (num_groups - 1) >= 1:
            raise ValueError(
                f'alpha * (num_groups - 1) must be below 1, got alpha={alpha} and num_groups={num_groups}: the last '
                'group would be rewarded for large weights'
            )
        self.warmup = check_number('warmup', warmup, '[0, 0.5)')
        self.linear_inputs = check_flag('linear_inputs', linear_inputs)
        self._indices: dict[tuple, Tensor] = {}

    def slope(self, progress: float) -> float:
        """The factor a, at a fraction ``progress`` of training."""
        return self.alpha * min(1.0, max(0.0, (progress - self.warmup) / (0.5 - self.warmup)))

    def _index(self, parameter: Tensor) -> Tensor | None:
        """Group of each weight, of the shape and strides of the parameter; None for tensors that have no groups.

        In full, because only lists of equal shapes are computed by a single launch on a GPU.
        """
        if parameter.dim() == 2 and self.linear_inputs:
            shape: list[int] = [1, -1]
        elif parameter.dim() in (1, 4):
            shape = [-1] + [1] * (parameter.dim() - 1)
        else:
            return None
        key = (shape[0], parameter.shape, parameter.stride(), parameter.dtype, parameter.device)
        if key not in self._indices:
            channels = parameter.size(shape.index(-1))
            groups = channel_groups(channels, self.num_groups, parameter.device).reshape(shape)
            self._indices[key] = torch.empty_like(parameter).copy_(groups)
        return self._indices[key]

    @torch.no_grad()
    def penalty(self, parameters: Sequence[nn.Parameter], progress: float) -> Tensor:
        """Penalty to add to the loss, a scalar; arguments as for :meth:`add_gradient`."""
        slope, sums = self.slope(progress), []
        for parameter in parameters:
            index = self._index(parameter)
            factor = 1 if index is None else 1 - slope * index
            sums.append((factor * parameter.square()).sum())
        return self.coefficient * torch.stack(sums).sum()

    @torch.no_grad()
    def add_gradient(self, parameters: Sequence[nn.Parameter], progress: float, scale: Tensor | None = None) -> None:
        """Add the gradient of the penalty to ``.grad``.

        Args:
            parameters (Sequence[nn.Parameter]): Parameters to penalise, in full, whatever the width.
            progress (float): Fraction of training done.
            scale (Tensor, optional): Loss scale that the gradients carry under float16 training.
        """
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        weights: Sequence[Tensor] = list(parameters)
        if scale is not None:
            weights = torch._foreach_mul(list(weights), scale)
        torch._foreach_add_(gradients, list(weights), alpha=2 * self.coefficient)
        indices = [self._index(parameter) for parameter in parameters]
        grouped = [(g, w, index) for g, w, index in zip(gradients, weights, indices) if index is not None]
        slope = self.slope(progress)
        if slope and grouped:
            lists = [list(tensors) for tensors in zip(*grouped)]
            torch._foreach_addcmul_(lists[0], lists[1], lists[2], value=-2 * self.coefficient * slope)
