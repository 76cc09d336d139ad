"""Measure the NT-Xent loss, forward and backward, beside lightly's; they take turns.

pip install lightly
python tools/benchmarks/nt_xent.py

Both get the same student and teacher embeddings; the teacher's have no gradient. The formula is the same, so the last
column shows by how much the two values differ.
"""

import argparse

import torch
from timing import alternate, arguments, describe, print_row, save

from us3l_mm.models.losses import nt_xent

SIZES = (128, 512, 2048)


def measure(images: int, theirs: torch.nn.Module, args: argparse.Namespace) -> dict:
    """Median times (ms) of both losses, and by how much their values differ."""
    student = torch.randn(images, args.dims, device=args.device, requires_grad=True)
    teacher = torch.randn(images, args.dims, device=args.device)
    losses = {'us3l_mm': lambda: nt_xent(student, teacher, 0.5), 'lightly': lambda: theirs(student, teacher)}
    ours, other = (loss().item() for loss in losses.values())
    runs = {name: lambda loss=loss: torch.autograd.grad(loss(), student) for name, loss in losses.items()}
    return dict(
        images=images, difference=abs(ours / other - 1), **alternate(runs, args.repeats, args.warmup, args.device)
    )


def main() -> None:
    parser = arguments(__doc__, dims=256, repeats=30, warmup=5, seed=0)
    args = parser.parse_args()
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        raise SystemExit('lightly is not installed: pip install lightly') from None
    describe(args)
    torch.manual_seed(args.seed)
    print_row(['images', 'us3l_mm (ms)', 'lightly (ms)', 'speed over lightly', 'difference'], head=True)
    rows = []
    for images in SIZES:
        row = measure(images, NTXentLoss(temperature=0.5), args)
        rows.append(row)
        times = row['us3l_mm'], row['lightly']
        print_row([images, *(f'{t:.2f}' for t in times), f'{times[1] / times[0]:.2f}', f'{row["difference"]:.0e}'])
    save(args, rows)


if __name__ == '__main__':
    main()
