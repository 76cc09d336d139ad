"""Width as a scope."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.conv import _ConvNd

from .channels import check_width
from .layers import SlimmableLayer

_RIGID_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.GroupNorm)


def _is_rigid(layer: nn.Module, after_linear: bool) -> bool:
    """Whether a plain layer takes one number of channels only, and those of a feature map."""
    if isinstance(layer, _RIGID_NORMS) or type(layer).__name__ == 'LayerNorm2d':  # mmpretrain's, torchvision's
        return not after_linear  # a projector's SyncBatchNorm, say: a linear layer keeps all outputs
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters > 1
    # A convolution, also one of another library that is no subclass of torch's: it owns a kernel.
    return any(parameter.dim() >= 4 for parameter in layer.parameters(recurse=False))


def _find_layers(module: nn.Module) -> tuple[list[SlimmableLayer], list[str]]:
    """Slimmable layers, and the plain ones behind the first of them that cannot follow a narrower width.

    Behind means in the order of definition: plain layers in front, such as a ViT's patch embedding, see
    all channels. Parts of a slimmable layer are its own business.
    """
    slimmable, rigid = [], []
    inside, after_linear = None, False
    for name, layer in module.named_modules():
        if isinstance(layer, SlimmableLayer):
            slimmable.append(layer)
            inside = f'{name}.' if name else ''
        elif inside is not None and not name.startswith(inside) and _is_rigid(layer, after_linear):
            rigid.append(f'{name} ({type(layer).__name__})')
        if isinstance(layer, (nn.Linear, _ConvNd)):
            after_linear = isinstance(layer, nn.Linear)
    return slimmable, rigid


@contextmanager
def use_width(module: nn.Module, width: float) -> Iterator[nn.Module]:
    """Run the slimmable layers of ``module`` at ``width`` inside a ``with`` block.

    Widths from before the block come back after it, also when it raises. Other modules keep theirs: a
    teacher stays at 1.0 because it is another module.

    Args:
        module (nn.Module): Network with slimmable layers.
        width (float): Width multiplier, in (0, 1].

    Yields:
        nn.Module: ``module`` itself.

    Raises:
        TypeError: If ``width`` is not a number.
        ValueError: If ``width`` is outside (0, 1], ``module`` has no slimmable layer, or ``width`` is below 1.0
            and there are plain convolutions or norms of feature maps behind slimmable layers.
    """
    width = check_width(width)
    layers, rigid = _find_layers(module)
    if not layers:
        raise ValueError(
            f'{type(module).__name__} has no slimmable layer, so its width cannot change; build it with '
            "conv_cfg=dict(type='us3l_mm.SlimmableConv2d'), norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d') "
            'and without a fixed `width`'
        )
    if rigid and width < 1.0:
        raise ValueError(
            f'{type(module).__name__} cannot run at width {width:.6g}: {len(rigid)} of its layers take their full '
            f'number of channels only: {", ".join(rigid[:3])}{", ..." if len(rigid) > 3 else ""}. Build them with '
            "conv_cfg=dict(type='us3l_mm.SlimmableConv2d'), norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d'), or "
            'give use_width the slimmable part alone'
        )
    before = [layer.width for layer in layers]
    try:
        for layer in layers:
            layer.width = width
        yield module
    finally:
        for layer, old in zip(layers, before):
            layer.width = old
