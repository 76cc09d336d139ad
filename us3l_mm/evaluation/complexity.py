"""Parameters and multiply-accumulate operations of each width."""

from mmengine.analysis import get_model_complexity_info
from torch import nn

from us3l_mm.slim import to_dense


def width_complexity(module: nn.Module, width: float, input_size: int) -> dict[str, float]:
    """Cost of the plain network that ``module`` is at ``width``.

    Args:
        module (nn.Module): Slimmable backbone.
        width (float): Width multiplier, in (0, 1].
        input_size (int): Height and width of the image, in pixels.

    Returns:
        dict[str, float]: ``width``; ``params``, the number of parameters; ``macs``, the multiply-accumulate
        operations for one image, as mmengine's ``get_model_complexity_info`` counts them: those of fused
        attention, between queries, keys and values, are not among them.
    """
    dense = to_dense(module, width, with_statistics=False).eval()
    counted = get_model_complexity_info(dense, (3, input_size, input_size), show_table=False, show_arch=False)
    return dict(width=float(width), params=int(counted['params']), macs=int(counted['flops']))
