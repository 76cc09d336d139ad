"""Search for the width of each part of a network within a budget.

Shapes: N images, C channels.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from us3l_mm.slim import SlimmableConv2d, SlimmableLinear, batch_statistics, trace_channels, use_width

Widths = dict[str, float]


def separable_parts(module: nn.Module) -> list[tuple[str, ...]]:
    """Children of a network in groups that can have a width of their own.

    Neighbours whose outputs are added, as a stem and a first stage without downsampling, are one group.

    Args:
        module (nn.Module): Slimmable network.

    Raises:
        ValueError: If there is only one group, so that there is nothing to choose.
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
        raise ValueError(f'the parts of {type(module).__name__} cannot have different widths: {groups}')
    return groups


@torch.no_grad()
def pooled_features(module: nn.Module, width: float | Widths, batches: Sequence[Tensor]) -> Tensor:
    """Average-pooled features (N, C) of the last output, normalised by the statistics of each batch.

    Args:
        module (nn.Module): Slimmable backbone; nothing in it changes.
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
    """1 minus the linear CKA of two sets of features, (N, C) and (N, C'): 0 if one is a rotation of the other.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019.
    """
    x, y = (f.double() - f.double().mean(dim=0) for f in (features, reference))
    similarity = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    return max(0.0, 1 - similarity.item())  # rounding may make it more than 1


def ridge_error(features: Tensor, labels: Tensor, decay: float = 1e-2) -> float:
    """Share of mistakes of a ridge classifier, fitted to the even images and tested on the odd ones.

    Args:
        features (Tensor): Shape (N, C).
        labels (Tensor): Shape (N,), integers.
        decay (float): Regularisation, in terms of the mean square of the features.
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
    """Slim the part that hurts least for what it saves, again and again until the budget is met.

    Args:
        groups (Sequence[tuple[str, ...]]): Parts that share a width, see :func:`separable_parts`.
        cost (Callable): Cost of a network of these widths by part.
        harm (Callable): How much worse it is, the smaller the better.
        budget (float): Most that the cost may be.
        step (float): What a width shrinks by at a time.
        lowest (float): Lowest width.

    Yields:
        dict: After each step, the full network first: ``widths``, ``cost`` and ``harm``.

    Raises:
        ValueError: If ``step`` or ``lowest`` is out of (0, 1), or the budget is out of reach.

    Source: the idea of Yu and Huang, "AutoSlim", 2019, which slims by accuracy alone; here by accuracy lost for
    cost saved.
    """
    if not 0 < step < 1 or not 0 < lowest < 1:
        raise ValueError(f'step and lowest must be in (0, 1), got {step} and {lowest}')
    parts = [part for group in groups for part in group]
    least = cost(dict.fromkeys(parts, lowest))
    if least > budget:
        raise ValueError(f'the budget of {budget:g} is out of reach: all parts at {lowest:g} cost {least:g}')
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
            else:  # rounding has left its channels as they were: go on from there
                now['widths'] = widths
        if candidates:
            now = min(candidates, key=lambda new: (new['harm'] - now['harm']) / (now['cost'] - new['cost']))
            yield now
