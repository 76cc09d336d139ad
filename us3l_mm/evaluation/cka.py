"""Likeness of a network's features at different widths, block by block.

Shapes: N images, D values of an image in a block.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from us3l_mm.slim import SlimmableLayer, check_widths

_LEAST = 4  # images of a batch that the unbiased estimate needs


def gram(features: Tensor) -> Tensor:
    """Inner products (N, N) of the features (N, ...) of images, less their mean, in float64."""
    flat = features.flatten(1)
    flat = flat - flat.mean(dim=0)  # changes nothing but the rounding
    return (flat @ flat.T).double().cpu()


def unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    r"""Unbiased estimate of the Hilbert-Schmidt independence criterion.

    With the diagonals of K and L set to zero:

    .. math::

        \frac{1}{n(n-3)} \left(\mathrm{tr}(KL) + \frac{1^T K 1 \, 1^T L 1}{(n-1)(n-2)} - \frac{2}{n-2} 1^T K L 1\right)

    Args:
        first (Tensor): Inner products K of shape (N, N), N at least 4.
        second (Tensor): Inner products L of the same images.

    Source: Song et al., "Feature Selection via Dependence Maximization", JMLR 2012.
    """
    n = len(first)
    a, b = first - first.diag().diag(), second - second.diag().diag()
    cross = a.sum(dim=0) @ b.sum(dim=0)
    return ((a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))


def blocks_of(backbone: nn.Module) -> dict[str, nn.Module]:
    """List the slimmable parts of a backbone by name: the blocks of its stages, or stages that have none."""
    found = {}
    for name, part in backbone.named_children():
        inner = part.named_children() if isinstance(part, (nn.Sequential, nn.ModuleList)) else [('', part)]
        found.update({f'{name}.{key}'.rstrip('.'): block for key, block in inner})
    return {name: block for name, block in found.items() if _width_of(block) and not isinstance(block, SlimmableLayer)}


def _width_of(block: nn.Module) -> float | None:
    return next((layer.width for layer in block.modules() if isinstance(layer, SlimmableLayer)), None)


class WidthCKA:
    """Linear CKA between the widest net and each other width, by the outputs of each block.

    CKA compares which images a block finds alike: 1 means the same up to rotation and scale, 0 nothing in common.
    Outputs are taken whole, with every position of a feature map. HSIC is estimated for each batch without bias, and
    averaged over the batches with their numbers of images as weights, so that memory does not grow with the data.

    It is a scope. Inside, run batches through the backbone at all widths, and let :meth:`watch` go through them.

    Args:
        backbone (nn.Module): Slimmable backbone.
        widths (Sequence[float]): Widths, two at least; the first is compared with the others.

    Raises:
        ValueError: If there is only one width, or the backbone has no block with slimmable layers.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019; averaging over
    batches: Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021.
    """

    def __init__(self, backbone: nn.Module, widths: Sequence[float]) -> None:
        self.widths = check_widths('widths', widths)
        self.blocks = blocks_of(backbone)
        if len(self.widths) < 2 or not self.blocks:
            raise ValueError(
                f'CKA compares blocks at two widths or more, got {list(self.widths)} and {len(self.blocks)} blocks'
            )
        self._grams: dict[tuple[str, float], Tensor] = {}
        shape = (len(self.widths), len(self.blocks))
        self._cross, self._own = torch.zeros(shape, dtype=torch.double), torch.zeros(shape, dtype=torch.double)

    def __enter__(self) -> 'WidthCKA':
        def keep(name: str):
            def hook(block: nn.Module, _, output: Tensor) -> None:
                self._grams[name, _width_of(block) or 1.0] = gram(output.detach())

            return hook

        self._hooks = [block.register_forward_hook(keep(name)) for name, block in self.blocks.items()]
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    def watch(self, batches: Iterable) -> Iterator:
        """Yield batches; what the backbone computed of each is taken in when the next one is asked for."""
        for batch in batches:
            self._grams.clear()
            yield batch
            for j, name in enumerate(self.blocks):
                grams = [self._grams[name, width] for width in self.widths]
                count = len(grams[0])
                if count >= _LEAST:
                    for i, other in enumerate(grams):
                        self._cross[i, j] += count * unbiased_hsic(grams[0], other)
                        self._own[i, j] += count * unbiased_hsic(other, other)

    def values(self) -> dict[float, list[float]]:
        """CKA of each block with itself at the first width, by width; NaN where features do not vary."""
        cka = self._cross / (self._own[:1].clamp(min=0) * self._own.clamp(min=0)).sqrt()
        return {width: row for width, row in zip(self.widths, cka.where(cka.isfinite(), torch.nan).tolist())}
