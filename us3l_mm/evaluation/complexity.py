"""Parameters and multiply-accumulate operations of each width."""

from collections.abc import Mapping
from typing import Any

from mmengine.analysis import get_model_complexity_info
from torch import nn

from us3l_mm.slim import to_dense


def width_complexity(module: nn.Module, width: float | Mapping[str, float], input_size: int) -> dict[str, Any]:
    """Cost of the plain network that ``module`` is at ``width``.

    Args:
        module (nn.Module): Slimmable backbone.
        width (float | Mapping[str, float]): As for :func:`us3l_mm.slim.use_width`.
        input_size (int): Height and width of the image, in pixels.

    Returns:
        dict[str, Any]: ``width``; ``params``, the number of parameters; ``macs``, the multiply-accumulate
        operations for one image, as mmengine's ``get_model_complexity_info`` counts them: those of fused
        attention, between queries, keys and values, are not among them.
    """
    dense = to_dense(module, width, with_statistics=False).eval()
    counted = get_model_complexity_info(dense, (3, input_size, input_size), show_table=False, show_arch=False)
    return dict(width=width, params=int(counted['params']), macs=int(counted['flops']))
