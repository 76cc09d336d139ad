"""Compare images per second of several processes with as many times those of one.

python tools/benchmarks/scaling.py --processes 2
python tools/benchmarks/scaling.py --config configs/us3l/r50_8xb60.py --processes 8 --batch 60 --side 224 --amp

Processes communicate by gloo on the CPU and by NCCL on GPUs. All runs take turns; while one process trains alone, the
others wait.
"""

import argparse
import tempfile

import torch
from timing import alternate, arguments, describe, print_row, save
from torch import distributed
from training import WIDTHS, add_training, build_model, build_optimizer, make_views, set_time

from us3l_mm.models import US3LDistributedDataParallel

RUNS = {'one update a width': 'per_width', 'one update an iteration': 'accumulate'}  # runs of all processes: `update`


def iteration(args: argparse.Namespace, update: str, distribute: bool = False):
    """Return a function that trains one iteration."""
    model = build_model(args, update=update, sampler=dict(widths=WIDTHS, dynamic=False))
    trained = US3LDistributedDataParallel(model) if distribute else model
    optimizer = build_optimizer(model, args.amp)
    views = make_views(args)

    def run() -> None:
        set_time(3, 4)
        if distribute:
            distributed.barrier()
        trained.train_step(dict(inputs=views), optimizer)

    return run


def work(rank: int, args: argparse.Namespace, meeting: str) -> None:
    if args.device == 'cuda':
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    backend = 'gloo' if args.device == 'cpu' else 'nccl'
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=args.processes)
    alone = iteration(args, 'per_width') if rank == 0 else lambda: None
    runs = {'one process': alone, **{name: iteration(args, update, distribute=True) for name, update in RUNS.items()}}
    times = alternate(runs, args.repeats, 2, args.device)
    if rank == 0:
        describe(args)
        print_row(['run', 'ms an iteration', 'images/s', f'of {args.processes} times one process'], head=True)
        rows = []
        for name, ms in times.items():
            images = args.batch * (1 if name == 'one process' else args.processes) / ms * 1e3
            share = times['one process'] / ms if name != 'one process' else 1.0
            rows.append(dict(run=name, ms=ms, images_per_second=images, efficiency=share))
            print_row([name, f'{ms:.0f}', f'{images:.1f}', f'{share:.2f}'])
        save(args, rows)
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    parser = arguments(__doc__, processes=2, batch=16, side=32, repeats=10)
    add_training(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (args, f'file://{folder}/meeting'), nprocs=args.processes)


if __name__ == '__main__':
    main()
