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
    panels, rows, changes = [], [], []
    data: dict[str, dict[str, dict]] = {name: {} for name in networks}
    for kind in kinds:
        curves, of_kind = [], []
        having = {name: found[kind] for name, found in networks.items() if kind in found}
        for number, (name, layers) in enumerate(having.items()):
            each = relative(layers)  # (layers, groups)
            mean, groups = each.nanmean(dim=0), each.size(1)
            spread = (each - mean).square().nanmean(dim=0).sqrt()
            half = groups // 2
            change = 100 * (mean[-half:].mean() / mean[:half].mean() - 1).item()
            of_kind.append(f'{change:+.1f} % ({name})')
            rows.append([kind, name, len(each), *(f'{value:.3f}' for value in mean.tolist()), f'{change:+.2f} %'])
            places = [group + 1 + 0.1 * number for group in range(groups)]  # beside each other
            bars = {'yerr': spread.tolist(), 'elinewidth': 0.7, 'capsize': 2}
            curves.append(Curve(places, mean.tolist(), name, options=bars))
            data[name][kind] = dict(
                mean=mean.tolist(),
                std=spread.tolist(),
                change_percent=change,
                rms={layer: value.tolist() for layer, value in layers.items()},
            )
        changes.append(f'{kind} {", ".join(of_kind)}')
        title = f'{kind}: mean and standard deviation over the layers'
        panels.append(
            Panel(curves, 'group of channels, the first is in every width', "norm over the layer's mean", title)
        )
    return Insight(
        name='weights',
        title='Norm of the weights by group of channels',
        says=f'From the first half of the channels to the second, norms change by: {"; ".join(changes)}.',
        table=markdown_table(['weights', 'network', 'layers', *range(1, groups + 1), 'second half over first'], rows),
        figure=plot_panels(panels, width=6),
        data=data,
    )
