"""Compare forward and backward of slimmable layers with those of dense layers.

OMP_NUM_THREADS=1 python tools/benchmarks/layer_overhead.py --batch 128
OMP_NUM_THREADS=1 python tools/benchmarks/layer_overhead.py --batch 16 --repeats 20 --channels-last
python tools/benchmarks/layer_overhead.py --backbone us3l_mm.SlimmableResNet --depth 50 --side 224 --batch 64 --amp

It runs two views, as an iteration of US3L does. `sliced`: each forward pass slices its weights; `shared`: both views
share the slices, as in training. The last columns count operations, each of which costs time when the GPU waits for its
driver. tools/benchmarks/dense_forward.py compares the dense net with a hand-built one.
"""

import argparse
from collections.abc import Callable

import torch
from mmengine.registry import init_default_scope
from timing import Runs, alternate, arguments, describe, operations, plain_net, print_row, save
from torch import nn

from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableLayer, switch_layers
from us3l_mm.utils.arguments import number_in


def make_runs(args: argparse.Namespace) -> Callable[[float], Runs]:
    """Return a function from a width to runs of a plain network, of sliced and of shared layers."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    net = MODELS.build(dict(type=args.backbone, depth=args.depth)).to(args.device).train()
    layers = [layer for layer in net.modules() if isinstance(layer, SlimmableLayer)]
    views = [torch.randn(args.batch, 3, args.side, args.side, device=args.device) for _ in range(2)]
    if args.channels_last:
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]

    def train(model: nn.Module) -> None:
        model.zero_grad()
        with torch.autocast(args.device.split(':')[0], torch.bfloat16, enabled=args.amp):
            loss = sum(model(view)[-1].float().mean() for view in views)
        loss.backward()

    def runs_at(width: float) -> Runs:
        plain = plain_net(net, width)

        def slimmable(share: bool) -> None:
            with switch_layers(layers, [width] * len(layers), share=share):
                train(net)

        return dict(plain=lambda: train(plain), sliced=lambda: slimmable(False), shared=lambda: slimmable(True))

    return runs_at


def main() -> None:
    parser = arguments(__doc__, batch=128, side=32, depth=18, repeats=5, warmup=2)
    parser.add_argument('--backbone', default='us3l_mm.SlimmableResNet_CIFAR', help='(default: %(default)s)')
    widths = (1.0, 0.75, 0.5, 0.25)
    parser.add_argument(
        '--widths', type=number_in('(0, 1]'), nargs='+', default=widths, help='(default: 1.0 0.75 0.5 0.25)'
    )
    parser.add_argument('--channels-last', action='store_true', help='memory format of the images')
    parser.add_argument('--amp', action='store_true', help='bfloat16')
    args = parser.parse_args()
    describe(args)
    sides = ('plain', 'sliced', 'shared')
    heads = ['width', *(f'{side} (ms)' for side in sides), 'sliced / plain', 'shared / plain']
    print_row([*heads, *(f'operations, {side}' for side in sides)], head=True)
    rows, runs_at = [], make_runs(args)
    for width in args.widths:
        runs = runs_at(width)
        counts = [operations(run) for run in runs.values()]
        times = alternate(runs, args.repeats, args.warmup, args.device)
        ratios = [times[name] / times['plain'] for name in ('sliced', 'shared')]
        rows.append(dict(width=width, ms=times, sliced_ratio=ratios[0], shared_ratio=ratios[1], operations=counts))
        cells = [*(f'{value:.1f}' for value in times.values()), *(f'{ratio:.3f}' for ratio in ratios), *counts]
        print_row([f'{width:g}', *cells])
    save(args, rows)


if __name__ == '__main__':
    main()
