"""Picture of where in its channels a network has its weights."""

from collections.abc import Mapping

from torch import Tensor

from us3l_mm.evaluation.group_norms import relative
from us3l_mm.utils.tables import markdown_table

from .curves import Curve, Panel, plot_panels
from .insight import Insight


def weight_insight(networks: Mapping[str, Mapping[str, Mapping[str, Tensor]]]) -> Insight:
    """Compare how networks spread their weights over the groups of channels.

    Args:
        networks (Mapping): For each network, by its name, what
            :func:`~us3l_mm.evaluation.group_norms.norms_by_group` found, with the same number of groups.
    """
    kinds = list(dict.fromkeys(kind for found in networks.values() for kind in found))
    panels, rows, says, data = [], [], [], {}
    for kind in kinds:
        curves = []
        for shift, (name, found) in enumerate((name, found) for name, found in networks.items() if kind in found):
            each = relative(found[kind])  # (layers, groups)
            mean, groups = each.nanmean(dim=0), each.size(1)
            spread = (each - mean).square().nanmean(dim=0).sqrt()
            places = [group + 1 + 0.08 * shift for group in range(groups)]  # beside each other
            curves.append(Curve(places, mean.tolist(), name, options={'yerr': spread.tolist()}))
            rows.append([kind, name, len(each), *(f'{value:.3f}' for value in mean.tolist())])
            says.append(f'{kind} of {name} {_change(mean[-1] / mean[0])}')
            data.setdefault(name, {})[kind] = dict(
                mean=mean.tolist(), std=spread.tolist(), rms={key: value.tolist() for key, value in found[kind].items()}
            )
        title = f'{kind}: mean and standard deviation over the layers'
        panels.append(
            Panel(curves, 'group of channels, the first is in every width', "norm over the layer's mean", title)
        )
    figure = plot_panels(panels, width=5)
    return Insight(
        name='weights',
        title='Norm of the weights by group of channels',
        says=f'From the first group of channels to the last, the mean norm of {"; ".join(says)}.',
        table=markdown_table(['weights', 'network', 'layers', *range(1, groups + 1)], rows),
        figure=figure,
        data=data,
    )


def _change(ratio: Tensor) -> str:
    percent = 100 * (ratio.item() - 1)
    return f'{"rises" if percent > 0 else "falls"} by {abs(percent):.1f} %'
