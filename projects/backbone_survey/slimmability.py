"""Check whether a network becomes slimmable by conv_cfg and norm_cfg alone.

Shapes: N images, C channels.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from us3l_mm.slim import SlimmableLayer, is_aligned, output_tensors, outputs_close, to_dense, trace_channels, use_width

WIDTHS = (0.5, 0.3)


class Verdict(NamedTuple):
    """Result for a backbone: ``works``, ``not aligned``, ``refused`` or ``fails``, and why."""

    word: str
    why: str = ''


def _randomise(net: nn.Module) -> None:
    """Draw random values for all parameters, so that no branch starts at zero."""
    for tensor in net.parameters():
        if tensor.dim() == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
        else:
            nn.init.normal_(tensor, 0, tensor[0].numel() ** -0.5)


def only_norms_train(net: nn.Module) -> nn.Module:
    """Set batch norms to training and the rest to evaluation, so that two runs without dropout are equal."""
    for layer in net.modules():
        layer.training = isinstance(layer, _BatchNorm)
    return net


class _ChannelMoves(TorchFunctionMode):
    """Records what a net does with channels between its layers."""

    WORDS = {'cat': 'concatenates channels', 'chunk': 'splits channels', 'split': 'splits channels'}

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        name = getattr(func, '__name__', '')
        if name in self.WORDS and args[0][0].dim() >= 3:
            self.seen.add(self.WORDS[name])
        elif name == 'transpose' and args[0].dim() == 5:
            self.seen.add('shuffles channels')
        return output


def _reason(error: Exception) -> str:
    """Shorten an error to its first sentence, with one example."""
    text = re.split(r'; |\. |\n', str(error).strip())[0]
    text = re.sub(r'^\w+ cannot run at width [\d.]+( on an input of \([\d, ]+\))?: ', '', text)  # the row says who
    text = re.sub(r'(\(\w+\)), .*', r'\1, ...', text)
    return text if isinstance(error, ValueError) else f'{type(error).__name__}: {text}'


def check_slimmable(
    build_plain: Callable[[], nn.Module],
    build_slimmable: Callable[[], nn.Module],
    size: int = 64,
    own_conv: str = 'layers',
) -> Verdict:
    """Build a backbone and run it at several widths.

    Args:
        build_plain (Callable): Builds the stock net.
        build_slimmable (Callable): Builds the slimmable one.
        size (int): Height and width of the input, in pixels. Defaults to 64.
        own_conv (str): Layers of the stock net that ``conv_cfg`` replaces, for the reason. Defaults to ``'layers'``.

    Returns:
        Verdict: The first thing that went wrong is the reason.
    """
    torch.manual_seed(0)
    plain = build_plain().double()
    try:
        net = build_slimmable().double()
    except Exception as error:
        return Verdict('refused', f'on construction: {_reason(error)}')
    if not any(isinstance(layer, SlimmableLayer) for layer in net.modules()):
        return Verdict('refused', 'hands conv_cfg and norm_cfg to no layer')
    if plain.state_dict().keys() != net.state_dict().keys():
        return Verdict('refused', 'other state-dict keys than the plain net')
    _randomise(plain)
    net.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    only_norms_train(plain)
    only_norms_train(net)
    with torch.no_grad():
        if not all(torch.equal(a, b) for a, b in zip(output_tensors(net(x)), output_tensors(plain(x)), strict=True)):
            return Verdict('refused', f'another net at width 1.0: conv_cfg replaces its {own_conv}')
    for width in WIDTHS:
        try:
            with use_width(net, width):
                pass
        except ValueError as error:
            return Verdict('refused', f'by use_width: {_reason(error)}')
        try:
            trace_channels(net, width, x)
        except ValueError as error:
            return Verdict('refused', f'when a model is built with it: {_reason(error)}')
    for width in WIDTHS:
        try:
            with use_width(net, width), _ChannelMoves() as moves:
                narrow = output_tensors(net(x))
            sum(output.square().mean() for output in narrow).backward()
        except Exception as error:
            return Verdict('fails', f'in the forward at width {width}: {_reason(error)}')
        if not is_aligned(net, x, width):
            return Verdict('not aligned', ', '.join(sorted(moves.seen)))
        try:
            dense = only_norms_train(to_dense(net, width, x, with_statistics=False))
        except Exception as error:
            return Verdict('fails', f'in to_dense at width {width}: {_reason(error)}')
        if not outputs_close(output_tensors(dense(x)), narrow):
            return Verdict('fails', f'to_dense at width {width} gives other outputs')
    return Verdict('works')
