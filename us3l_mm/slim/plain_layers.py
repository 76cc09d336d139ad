"""Dense layers, to which slimmable ones are converted."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Plain = TypeVar('Plain', bound=nn.Module)


class PrefixConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` that reads the first ``in_channels`` channels of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W), C at least ``in_channels``."""
        return super().forward(x[:, : self.in_channels])


class PrefixLinear(nn.Linear):
    """:class:`torch.nn.Linear` that reads the first ``in_features`` values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C), C at least ``in_features``."""
        return super().forward(x[..., : self.in_features])


def take_tensors(plain: Plain, layer: nn.Module, **tensors: Tensor | None) -> Plain:
    """Set copies of ``tensors`` on ``plain``, with the training mode and ``requires_grad`` flags of ``layer``."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
        if name in layer._parameters:
            setattr(plain, name, nn.Parameter(tensor, requires_grad=getattr(layer, name).requires_grad))
        else:
            plain.register_buffer(name, tensor)
    return plain.train(layer.training)
