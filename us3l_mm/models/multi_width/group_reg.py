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
        self._groups: dict[tuple, Tensor] = {}

    def slope(self, progress: float) -> float:
        """The factor a, at a fraction ``progress`` of training."""
        return self.alpha * min(1.0, max(0.0, (progress - self.warmup) / (0.5 - self.warmup)))

    def _group(self, parameter: Tensor) -> Tensor:
        """Group of each output or input, shaped to broadcast; zeros for tensors that have no groups."""
        if parameter.dim() == 2 and self.linear_inputs:
            size, dims = parameter.size(1), 1
        else:
            size, dims = (len(parameter), parameter.dim()) if parameter.dim() in (1, 4) else (1, 1)
        key = (size, dims, parameter.dtype, parameter.device)
        if key not in self._groups:
            index = channel_groups(size, self.num_groups, parameter.device).to(parameter.dtype)
            self._groups[key] = index.reshape(-1, *[1] * (dims - 1))
        return self._groups[key]

    def _factors(self, parameters: Sequence[nn.Parameter], progress: float) -> list[Tensor]:
        """Twice the coefficient of each output or input: times the weight, it is the gradient of the penalty."""
        groups = [self._group(parameter) for parameter in parameters]
        distinct = {id(group): group for group in groups}  # one for each size
        values = torch._foreach_mul(list(distinct.values()), -2 * self.coefficient * self.slope(progress))
        torch._foreach_add_(values, 2 * self.coefficient)
        factors = dict(zip(distinct, values))
        return [factors[id(group)] for group in groups]

    @torch.no_grad()
    def penalty(self, parameters: Sequence[nn.Parameter], progress: float) -> Tensor:
        """Penalty to add to the loss, a scalar; arguments as for :meth:`add_gradient`."""
        factors = self._factors(parameters, progress)
        return 0.5 * torch.stack([(f * p.square()).sum() for f, p in zip(factors, parameters)]).sum()

    @torch.no_grad()
    def add_gradient(self, parameters: Sequence[nn.Parameter], progress: float, scale: Tensor | None = None) -> None:
        """Add the gradient of the penalty to ``.grad``.

        Args:
            parameters (Sequence[nn.Parameter]): Parameters to penalise, in full, whatever the width.
            progress (float): Fraction of training done.
            scale (Tensor, optional): Loss scale that the gradients carry under float16 training.
        """
        factors: Sequence[Tensor] = self._factors(parameters, progress)
        if scale is not None:
            factors = torch._foreach_mul(list(factors), scale)
        known = [(p.grad, p, factor) for p, factor in zip(parameters, factors) if p.grad is not None]
        for parameter, factor in zip(parameters, factors):
            if parameter.grad is None:
                parameter.grad = factor * parameter
        if known:
            torch._foreach_addcmul_(*map(list, zip(*known)))
