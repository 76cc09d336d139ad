"""Forward time of a dense export over a plain network of the same channels, built by hand.

python tools/benchmarks/dense_forward.py

Is anything left of slimming? Both run in turn, in one process; what counts is the ratio of their medians, which other
programs disturb least.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn

import us3l_mm  # noqa: F401  before anything of mmcv.ops
from us3l_mm.models import SlimmableResNet
from us3l_mm.slim import calibrate_bn, slim_channels, to_dense

WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Block(nn.Module):
    """Basic block of plain layers."""

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
    """ResNet-18 whose channels are those of ``width``, of nothing but torch's own layers."""
    stem, *stages = (slim_channels(channels, width) for channels in (64, 64, 128, 256, 512))
    layers = [nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = stem
    for index, outputs in enumerate(stages):
        layers += [Block(inputs, outputs, 2 if index else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', type=int, default=224, help='side of the images (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=8, help='images at a time (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=30, help='runs of each (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument('--out', help='JSON file to write')
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, args.input, args.input, device=args.device)
    net = SlimmableResNet(18).to(args.device)
    calibrate_bn(net, WIDTHS, [images])
    wait = torch.cuda.synchronize if images.is_cuda else lambda: None
    rows = []
    print(f'{args.device}, {args.batch} x 3 x {args.input} x {args.input}, {torch.get_num_threads()} thread(s)')
    print('| width | dense export (ms) | plain net (ms) | ratio of medians |\n|---|---|---|---|')
    for width in WIDTHS:
        nets = dict(dense=to_dense(net, width).eval(), plain=plain_resnet18(width).to(args.device).eval())
        if not torch.equal(*(torch.tensor(sum(p.numel() for p in n.parameters())) for n in nets.values())):
            raise SystemExit(f'the two networks of width {width} are not of one size')
        times: dict[str, list[float]] = {name: [] for name in nets}
        for turn in range(args.repeats + 3):
            for name, one in nets.items():
                wait()
                start = time.perf_counter()
                one(images)
                wait()
                if turn >= 3:
                    times[name].append(1e3 * (time.perf_counter() - start))
        dense, plain = (statistics.median(times[name]) for name in nets)
        rows.append(dict(width=width, dense_ms=dense, plain_ms=plain, ratio=dense / plain))
        print(f'| {width:g} | {dense:.2f} | {plain:.2f} | {dense / plain:.3f} |', flush=True)
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(dict(arguments=vars(args), rows=rows), file, indent=2)


if __name__ == '__main__':
    main()
