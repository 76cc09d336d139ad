"""Where in its channels a network has its weights: norms by the groups that group regularisation makes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from us3l_mm.models.multi_width.group_reg import channel_groups

CONVOLUTIONS, SCALES, LINEARS = 'convolution weights', 'batch-norm scales', 'linear weights'


def group_rms(weight: Tensor, num_groups: int = 8, axis: int = 0) -> Tensor:
    """Root mean square of the weights of each group of channels.

    Unlike the norm, it does not depend on how many weights a group has.

    Args:
        weight (Tensor): Weights of any shape.
        num_groups (int): Groups, see :func:`channel_groups`. Defaults to 8.
        axis (int): Axis of the channels. Defaults to 0, the outputs.

    Returns:
        Tensor: Float64, of shape (num_groups,); NaN for groups that have no channel.
    """
    squares = weight.double().square().movedim(axis, 0).flatten(1) if weight.dim() > 1 else weight.double().square()
    squares = squares.mean(dim=1) if squares.dim() > 1 else squares  # of each channel
    index = channel_groups(len(squares), num_groups, squares.device)
    total = squares.new_zeros(num_groups).index_add(0, index, squares)
    return (total / torch.bincount(index, minlength=num_groups)).sqrt()


def backbone_state(state: Mapping[str, Tensor], prefix: str | None = None) -> dict[str, Tensor]:
    """Take the tensors of the backbone out of a state dict.

    Args:
        state (Mapping[str, Tensor]): State of a backbone, or of a model that has it as ``backbone``.
        prefix (str, optional): What stands before the keys of the backbone. Defaults to None: the shortest that ends
            in ``backbone.``, which is the online net and not its teacher; or none, if there is no such key.

    Raises:
        ValueError: If no key starts with ``prefix``.
    """
    if prefix is None:
        ends = {key[: key.index('backbone.')] + 'backbone.' for key in state if 'backbone.' in key}
        prefix = min(ends, key=len, default='')
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not found:
        raise ValueError(f'no key starts with {prefix!r}; there are {list(state)[:3]}')
    return found


def norms_by_group(state: Mapping[str, Tensor], num_groups: int = 8) -> dict[str, dict[str, Tensor]]:
    """Measure the weights of each layer by group.

    Args:
        state (Mapping[str, Tensor]): State of a backbone.
        num_groups (int): Groups of channels. Defaults to 8.

    Returns:
        dict[str, dict[str, Tensor]]: For each kind of weights that there is, by layer: :func:`group_rms`. Convolutions
        and scales go by output channels. Linear weights, which only a vision transformer's backbone has, go by inputs,
        as in its group regularisation.

    Raises:
        ValueError: If there are none of these, or a weight is not finite.
    """
    found: dict[str, dict[str, Tensor]] = {CONVOLUTIONS: {}, SCALES: {}, LINEARS: {}}
    for key, value in state.items():
        layer, _, name = key.rpartition('.')
        if name != 'weight' or not isinstance(value, Tensor):
            continue
        if not value.isfinite().all():
            raise ValueError(f'{key} has values that are not finite')
        kind = {4: CONVOLUTIONS, 2: LINEARS}.get(value.dim())
        if value.dim() == 1 and f'{layer}.running_mean' in state:
            kind = SCALES
        if kind is not None:
            found[kind][layer] = group_rms(value, num_groups, axis=int(kind == LINEARS))
    found = {kind: layers for kind, layers in found.items() if layers}
    if not found:
        raise ValueError(f'no weights of convolutions, batch norms or linear layers among {list(state)[:3]}')
    return found


def relative(layers: Mapping[str, Tensor]) -> Tensor:
    """Norms of each layer by group over their mean, (layers, groups); NaN for a layer whose weights are all zero."""
    norms = torch.stack(list(layers.values()))
    return norms / norms.nanmean(dim=1, keepdim=True)
