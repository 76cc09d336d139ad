"""Compare the forward time of a dense network with that of a hand-built one of the same channels.

python tools/benchmarks/dense_forward.py

It shows whether slimming costs anything after the export. Both take turns in one process; the ratio of their medians
depends least on other programs.
"""

from functools import partial

import torch
from timing import alternate, arguments, describe, print_row, save
from torch import nn

from us3l_mm.models import SlimmableResNet
from us3l_mm.slim import calibrate_bn, slim_channels, to_dense

WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Block(nn.Module):
    """Basic block of torch's layers."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def plain_resnet18(width: float) -> nn.Module:
    """Build a ResNet-18 of torch's layers with the channels of ``width``."""
    stem, *stages = (slim_channels(channels, width) for channels in (64, 64, 128, 256, 512))
    layers = [nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = stem
    for index, outputs in enumerate(stages):
        layers += [Block(inputs, outputs, 2 if index else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers)


@torch.no_grad()
def main() -> None:
    args = arguments(__doc__, side=224, batch=8, repeats=30, warmup=3).parse_args()
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, args.side, args.side, device=args.device)
    net = SlimmableResNet(18).to(args.device)
    calibrate_bn(net, WIDTHS, [images])
    describe(args)
    print_row(['width', 'dense export (ms)', 'plain net (ms)', 'ratio of medians'], head=True)
    rows = []
    for width in WIDTHS:
        dense, plain = to_dense(net, width).eval(), plain_resnet18(width).to(args.device).eval()
        if len({sum(p.numel() for p in one.parameters()) for one in (dense, plain)}) > 1:
            raise SystemExit(f'the two networks of width {width} have different numbers of parameters')
        runs = dict(dense=partial(dense, images), plain=partial(plain, images))
        row = dict(width=width, **alternate(runs, args.repeats, args.warmup, args.device))
        row['ratio'] = row['dense'] / row['plain']
        rows.append(row)
        print_row([f'{width:g}', f'{row["dense"]:.2f}', f'{row["plain"]:.2f}', f'{row["ratio"]:.3f}'])
    save(args, rows)


if __name__ == '__main__':
    main()
