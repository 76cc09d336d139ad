"""From a slimmable network to the plain narrow network it is at one width."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from .scope import trace_channels, use_width


def to_dense(
    module: nn.Module,
    width: float | Mapping[str, float],
    example_input: Tensor | None = None,
    with_statistics: bool = True,
) -> nn.Module:
    """Copy of ``module`` in which every slimmable layer is the plain layer it is at ``width``.

    Args:
        module (nn.Module): Slimmable network.
        width (float | Mapping[str, float]): Width multiplier, or those of parts; see :func:`use_width`.
        example_input (Tensor, optional): See :func:`trace_channels`.
        with_statistics (bool): Whether batch norms take the calibrated statistics of that width. False
            leaves them at their initial zeros and ones.

    Returns:
        nn.Module: Network without slimmable layers, of its own memory; gives the same outputs.

    Raises:
        RuntimeError: If ``with_statistics`` and the width is not calibrated.
        ValueError: If the input channels of a layer cannot be told, see :func:`trace_channels`.
    """
    channels, _ = trace_channels(module, width, example_input)
    with use_width(module, width):
        plain = {
            name: module.get_submodule(name).dense(in_channels, with_statistics)
            for name, in_channels in channels.items()
        }
    if '' in plain:
        return plain['']
    # Layers already converted are not copied: the memo hands them out in place of the slimmable ones.
    memo = {id(module.get_submodule(name)): layer for name, layer in plain.items()}
    return copy.deepcopy(module, memo)
