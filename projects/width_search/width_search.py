"""Search for the width of each part of a network within a budget.

Shapes: N images, C channels.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from us3l_mm.slim import SlimmableConv2d, SlimmableLinear, batch_statistics, trace_channels, use_width

Widths = dict[str, float]


def separable_parts(module: nn.Module) -> list[tuple[str, ...]]:
    """Group the parts of a network so that each group can have a width of its own.

    Neighbours whose outputs are added are one group, such as a stem and a first stage without downsampling.

    Args:
        module (nn.Module): Slimmable network.

    Raises:
        ValueError: If there is only one group.
    """
    kinds = (SlimmableConv2d, SlimmableLinear)
    groups = [
        (name,) for name, child in module.named_children() if any(isinstance(layer, kinds) for layer in child.modules())
    ]
    index = 0
    while index < len(groups):
        try:
            trace_channels(module, dict.fromkeys(groups[index], 0.5))
            index += 1
        except ValueError:
            if index + 1 < len(groups):
                groups[index : index + 2] = [groups[index] + groups[index + 1]]
            elif index:
                groups[index - 1 :] = [groups[index - 1] + groups[index]]
                index -= 1
            else:
                break
    if len(groups) < 2:
        raise ValueError(
            f'the parts of {type(module).__name__} cannot have different widths, got {groups}; give one width'
        )
    return groups


@torch.no_grad()
def pooled_features(module: nn.Module, width: float | Widths, batches: Sequence[Tensor]) -> Tensor:
    """Compute average-pooled features (N, C) of the last output, with the batch-norm statistics of each batch.

    Args:
        module (nn.Module): Slimmable backbone; it is not changed.
        width (float | dict[str, float]): As for :func:`us3l_mm.slim.use_width`.
        batches (Sequence[Tensor]): Preprocessed images, each of shape (N, 3, H, W) with N > 1.
    """
    found = []
    with batch_statistics(module), use_width(module, width):
        for batch in batches:
            output = module(batch)[-1]
            found.append(output.flatten(2).mean(dim=2) if output.dim() > 2 else output)
    return torch.cat(found)


def cka_distance(features: Tensor, reference: Tensor) -> float:
    """Compute 1 minus the linear CKA of features (N, C) and (N, C'); 0 if one is a rotation of the other.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019.
    """
    x, y = (f.double() - f.double().mean(dim=0) for f in (features, reference))
    similarity = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    return max(0.0, 1 - similarity.item())  # rounding may raise it above 1


def ridge_error(features: Tensor, labels: Tensor, decay: float = 1e-2) -> float:
    """Compute the share of errors of a ridge classifier, fitted to the even images and tested on the odd ones.

    Args:
        features (Tensor): Shape (N, C).
        labels (Tensor): Shape (N,), integers.
        decay (float): Regularisation, in units of the mean square of the features. Defaults to 0.01.
    """
    x = torch.nn.functional.pad(features.double(), (0, 1), value=1.0)
    fit, test = x[::2], x[1::2]
    targets = 2 * torch.nn.functional.one_hot(labels, int(labels.max()) + 1)[::2].double() - 1
    gram = fit.T @ fit
    gram.diagonal().add_(decay * gram.diagonal().mean())
    scores = test @ torch.linalg.solve(gram, fit.T @ targets)
    return (scores.argmax(dim=1) != labels[1::2]).double().mean().item()


def greedy_search(
    groups: Sequence[tuple[str, ...]],
    cost: Callable[[Widths], float],
    harm: Callable[[Widths], float],
    budget: float,
    step: float = 0.125,
    lowest: float = 0.25,
) -> Iterator[dict]:
    """Make the part with the least harm for the saved cost narrower, step by step until the budget is met.

    Args:
        groups (Sequence[tuple[str, ...]]): Parts that share a width, see :func:`separable_parts`.
        cost (Callable): Cost of a network with given widths of parts.
        harm (Callable): Harm of given widths of parts; lower is better.
        budget (float): Largest allowed cost.
        step (float): Change of a width in a step. Defaults to 0.125.
        lowest (float): Lowest width. Defaults to 0.25.

    Yields:
        dict: ``widths``, ``cost`` and ``harm``, first of the full network and then after each step.

    Raises:
        ValueError: If ``step`` or ``lowest`` is outside (0, 1), or all parts at ``lowest`` cost more than the budget.

    Source: Yu and Huang, "AutoSlim", 2019. They choose parts by accuracy alone, this search by harm for saved cost.
    """
    if not 0 < step < 1 or not 0 < lowest < 1:
        raise ValueError(f'step and lowest must be in (0, 1), got {step} and {lowest}')
    parts = [part for group in groups for part in group]
    least = cost(dict.fromkeys(parts, lowest))
    if least > budget:
        raise ValueError(f'the budget of {budget:g} is out of reach: all parts at {lowest:g} cost {least:g}; raise it')
    widths = dict.fromkeys(parts, 1.0)
    now = dict(widths=widths, cost=cost(widths), harm=harm(widths))
    yield now
    while now['cost'] > budget:
        candidates = []
        for group in groups:
            narrower = max(lowest, round(now['widths'][group[0]] - step, 6))
            if narrower == now['widths'][group[0]]:
                continue
            widths = {**now['widths'], **dict.fromkeys(group, narrower)}
            spent = cost(widths)
            if spent < now['cost']:
                candidates.append(dict(widths=widths, cost=spent, harm=harm(widths)))
            else:  # rounding has left the channels as they were: go on from this width
                now['widths'] = widths
        if candidates:
            now = min(candidates, key=lambda new: (new['harm'] - now['harm']) / (now['cost'] - new['cost']))
            yield now
