"""Compare the speed of iterations in float32 and in faster precisions, and their losses.

python tools/benchmarks/precision.py --config configs/digits/r18_1xb64-16e_digits.py --side 16 --batch 64
python tools/benchmarks/precision.py --batch 512 --speed graphs compiled --steps 200

Each way takes turns with float32 in one process, at three widths of the last stage. With --steps it then trains for
that many iterations on images with something to learn. The base loss and the distillation loss of the narrowest width,
each a mean over the last quarter, are compared with float32's; not their sum, which is near zero. The runs of --moved
show the effect of rounding alone: they start from weights that are moved by a rounding error.
"""

import argparse

import torch
from timing import alternate, arguments, describe, print_row, save
from training import WIDTHS, add_training, build_model, build_optimizer, set_time

from us3l_mm.utils.arguments import number_in


def ways(args: argparse.Namespace) -> dict[str, dict]:
    """Return the options of each way: bfloat16, channels_last, TF32, speed, or the number of a moved run."""
    found = {'float32': {}, 'float32, channels_last': dict(channels_last=True)}  # the second differs by rounding alone
    found.update({'bfloat16': dict(amp=True), 'bfloat16, channels_last': dict(amp=True, channels_last=True)})
    found.update({f'float32, moved {number}': dict(moved=number) for number in range(1, args.moved + 1)})
    if args.device != 'cpu':
        found['TF32'] = dict(tf32=True)
        found['float16'] = dict(half=True)
    fast = ('float32', 'TF32', 'float16', 'bfloat16, channels_last') if args.device != 'cpu' else ('float32',)
    found.update({f'{name}, {speed}': dict(found[name], speed=speed) for speed in args.speed for name in fast})
    return found


def batches(args: argparse.Namespace, count: int) -> list[list[torch.Tensor]]:
    """Draw pairs of views that share their coarse structure, so that there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        coarse = torch.randn(args.batch, 3, 4, 4, generator=generator)
        image = torch.nn.functional.interpolate(coarse, args.side, mode='bilinear')
        views = [image + 0.5 * torch.randn(image.shape, generator=generator) for _ in range(2)]
        found.append([view.to(args.device) for view in views])
    return found


class Training:
    """Iterations in one way, each on the next batch."""

    def __init__(self, args: argparse.Namespace, data: list, way: dict) -> None:
        self.tf32 = way.get('tf32', False)
        self.form = torch.channels_last if way.get('channels_last') else torch.contiguous_format
        changes = dict(speed=way['speed']) if 'speed' in way else {}
        self.model = build_model(args, sampler=dict(widths=WIDTHS, dynamic=False), **changes)
        if way.get('moved'):
            torch.manual_seed(way['moved'])
            for parameter in self.model.parameters():
                parameter.data *= 1 + torch.finfo(torch.float32).eps * torch.randn_like(parameter)
        self.optimizer = build_optimizer(self.model, way.get('amp', False), half=way.get('half', False), lr=args.lr)
        self.data = data
        self.losses: list[torch.Tensor] = []  # of the widest and the narrowest width

    def __call__(self) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        views = self.data[len(self.losses) % len(self.data)]
        views = [view.contiguous(memory_format=self.form) for view in views]
        set_time(len(self.losses), 10_000)
        logs = self.model.train_step(dict(inputs=views), self.optimizer)
        self.losses.append(torch.stack([logs['loss_widest'], logs['loss_narrowest']]))


def measure(args: argparse.Namespace, name: str, training: Training, base: Training) -> dict:
    """Measure a way in turns with float32, then train on until ``--steps``."""
    times = alternate({name: training, 'float32': base}, args.repeats, args.warmup, args.device)
    while len(training.losses) < args.steps:
        training()
    steps = args.steps or len(training.losses)
    last = torch.stack(training.losses[steps - max(1, steps // 4) : steps]).mean(dim=0).tolist()
    return dict(way=name, ms=times[name], speed=times['float32'] / times[name], losses=last)


def main() -> None:
    parser = arguments(__doc__, batch=64, side=32, repeats=10, warmup=3, steps=0, moved=0)
    add_training(parser)
    parser.add_argument('--lr', type=number_in('(0, inf)'), default=1e-2, help='learning rate (default: %(default)s)')
    parser.add_argument(
        '--speed',
        nargs='*',
        default=[],
        choices=['graphs', 'compiled'],
        help="ways besides eager to measure too, options of the model's `speed`, such as graphs compiled",
    )
    args = parser.parse_args()
    data = batches(args, 8)
    describe(args)
    losses = ['base loss', 'change', 'distillation loss', 'change'] if args.steps else []
    print_row(['way', 'ms an iteration', 'images/s', 'times float32', *losses], head=True)
    rows, base = [], Training(args, data, {})
    for name, way in ways(args).items():
        row = measure(args, name, base if name == 'float32' else Training(args, data, way), base)
        rows.append(row)
        cells = [f'{row["ms"]:.1f}', f'{1e3 * args.batch / row["ms"]:.0f}', f'{row["speed"]:.2f}']
        for value, exact in zip(row['losses'], rows[0]['losses']) if args.steps else ():
            cells += [f'{value:.4f}', f'{(value - exact) / abs(exact):+.2%}']
        print_row([name, *cells])
        save(args, rows)


if __name__ == '__main__':
    main()
