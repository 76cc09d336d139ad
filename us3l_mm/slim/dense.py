"""Convert a slimmable network to the dense network of one width."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from .layers import SlimmableLayer
from .scope import switch_width, trace_channels
from .width import Width


def dense_layers(
    module: nn.Module, width: Width, channels: Mapping[str, int], with_statistics: bool = True
) -> dict[int, nn.Module]:
    """Build the dense layer of each slimmable one at ``width``, keyed by the ``id`` of the slimmable one.

    As the memo of :func:`copy.deepcopy` they take the place of the slimmable layers in the copy.

    Args:
        module (nn.Module): Slimmable network.
        width (Width): See :func:`use_width`.
        channels (Mapping[str, int]): Input channels of each layer, from :func:`trace_channels`.
        with_statistics (bool): See :func:`to_dense`.
    """
    with switch_width(module, width):
        layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, SlimmableLayer)}
        return {id(layers[name]): layers[name].dense(count, with_statistics) for name, count in channels.items()}


def to_dense(
    module: nn.Module,
    width: Width,
    example_input: Tensor | None = None,
    with_statistics: bool = True,
    channels: Mapping[str, int] | None = None,
) -> nn.Module:
    """Copy ``module`` with every slimmable layer replaced by its dense form at ``width``.

    Args:
        module (nn.Module): Slimmable network.
        width (Width): Width multiplier, or those of parts; see :func:`use_width`.
        example_input (Tensor, optional): See :func:`trace_channels`.
        with_statistics (bool): Whether batch norms take the calibrated statistics of that width. False
            leaves them at their initial zeros and ones.
        channels (Mapping[str, int], optional): Result of :func:`trace_channels` for this width, if known.

    Returns:
        nn.Module: Dense network with the same outputs; shares no memory with ``module``.

    Raises:
        RuntimeError: If ``with_statistics`` and the width is not calibrated.
        ValueError: If the input channels of a layer are unclear, see :func:`trace_channels`.
    """
    if channels is None:
        channels, _ = trace_channels(module, width, example_input)
    return copy.deepcopy(module, dense_layers(module, width, channels, with_statistics))
