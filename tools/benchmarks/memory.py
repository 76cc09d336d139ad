"""Compare the peak memory of an iteration of US3L with that of one at full width only.

OMP_NUM_THREADS=1 python tools/benchmarks/memory.py --batch 32
python tools/benchmarks/memory.py --config configs/us3l/r50_8xb256.py --batch 64 --side 224 --amp

Both have the same base loss and a momentum teacher. The peak counts all tensors: weights, state of the optimizer and
what an iteration needs. On a CPU it comes from the profiler's record of allocations, on a GPU from torch's allocator.
"""

import argparse
import gc
from collections.abc import Callable, Iterator

import torch
from timing import arguments, describe, print_row, save
from torch.profiler import profile
from training import WIDTHS, add_training, build_model, build_optimizer, build_plain, make_views, set_time


def tensors_in(*nests: object) -> Iterator[torch.Tensor]:
    for nest in nests:
        if isinstance(nest, torch.Tensor):
            yield nest
        elif isinstance(nest, (dict, list, tuple)):
            yield from tensors_in(*(nest.values() if isinstance(nest, dict) else nest))


def peak_on_cpu(run: Callable[[], object], lasting: int) -> int:
    """Measure the peak of live bytes during ``run``; ``lasting`` bytes were there before."""
    with profile(profile_memory=True, acc_events=True) as record:
        run()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == '[memory]']
    live = most = lasting
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def measure(args: argparse.Namespace, build: Callable, **changes) -> float:
    """Measure the peak (MiB) of the second iteration, when the optimizer has its state."""
    gc.collect()  # frees the model before this one, which has reference cycles
    model, views = build(args, **changes), make_views(args)
    wrapper = build_optimizer(model, args.amp)
    set_time(1, 400)

    def run() -> None:
        model.train_step(dict(inputs=views), wrapper)

    run()
    if args.device == 'cpu':
        lasting = tensors_in(model.state_dict(), wrapper.optimizer.state_dict(), views)
        return peak_on_cpu(run, sum(tensor.nbytes for tensor in lasting)) / 2**20
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**20


def main() -> None:
    parser = arguments(__doc__, batch=32, side=32)
    add_training(parser)
    args = parser.parse_args()
    row = dict(
        plain=measure(args, build_plain), us3l=measure(args, build_model, sampler=dict(widths=WIDTHS, dynamic=False))
    )
    row['ratio'] = row['us3l'] / row['plain']
    describe(args)
    print_row(['full width only (MiB)', 'all widths (MiB)', 'ratio'], head=True)
    print_row([f'{row["plain"]:.1f}', f'{row["us3l"]:.1f}', f'{row["ratio"]:.3f}'])
    save(args, [row])


if __name__ == '__main__':
    main()
