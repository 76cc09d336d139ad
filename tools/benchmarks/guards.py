"""Measure what guards a training costs: looks for values that are not finite, for signals, and seeds of each iteration.

python tools/benchmarks/guards.py
python tools/benchmarks/guards.py --processes 1 --config configs/us3l/r50_8xb60.py --batch 60 --side 224

Each is given as a part of a training iteration, with which it takes turns; several processes communicate by gloo. The
look before a checkpoint is given for the model of the config and for a ResNet-50 with its teacher.
"""

import argparse
import tempfile
from types import SimpleNamespace

import torch
from timing import alternate, arguments, describe, print_row, save
from torch import distributed, nn
from training import WIDTHS, add_training, build_model, build_optimizer, make_views, set_time

from us3l_mm.engine import NonFiniteHook
from us3l_mm.engine.seeded_batches import seed_process
from us3l_mm.engine.signals import SignalHook, SignalRequests
from us3l_mm.models import US3LDistributedDataParallel

LARGE = 'configs/us3l/r50_8xb256.py'


def start_hook(model: nn.Module) -> tuple[NonFiniteHook, SimpleNamespace]:
    """Start the look for values that are not finite; return it and what stands for the Runner."""
    hook, runner = NonFiniteHook(), SimpleNamespace(model=model, iter=0)
    hook.before_train(runner)
    return hook, runner


def guards(model: nn.Module, requests: SignalRequests, device: str) -> dict:
    """What runs once an iteration, by its name."""
    hook, runner = start_hook(model)
    signals = SignalHook(requests)
    outputs = dict(loss=torch.ones((), device=device))

    def look() -> None:
        for runner.iter in range(hook.interval):  # one of which reads what was found
            hook.after_train_iter(runner, 0, outputs=outputs)

    return {
        f'{hook.interval} looks at the loss': look,
        'look for signals': lambda: signals.after_train_iter(runner, 0),
        'two seeds': lambda: [seed_process(0, 0, 7, purpose) for purpose in ('images', 'model')],
    }


def look_before_checkpoint(model: nn.Module):
    """Return a function that looks at all that a checkpoint of a model has."""
    hook, runner = start_hook(model)
    return lambda: hook.before_save_checkpoint(runner, dict(state_dict=model.state_dict()))


def work(rank: int, args: argparse.Namespace, meeting: str) -> None:
    if args.device == 'cuda':
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    if args.processes > 1:
        distributed.init_process_group('gloo', init_method=meeting, rank=rank, world_size=args.processes)
    model = build_model(args, sampler=dict(widths=WIDTHS, dynamic=False))
    trained = US3LDistributedDataParallel(model) if args.processes > 1 else model
    optimizer, views = build_optimizer(model, args.amp), make_views(args)

    def iteration() -> None:
        set_time(3, 4)
        trained.train_step(dict(inputs=views), optimizer)

    every = guards(model, SignalRequests(), args.device)
    times = alternate({'iteration': iteration, **every}, args.repeats, 2, args.device)
    large = build_model(argparse.Namespace(**{**vars(args), 'config': LARGE, 'cfg_options': None}))
    saved = {'look before a checkpoint': look_before_checkpoint(model)}
    saved['look before a checkpoint of ResNet-50'] = look_before_checkpoint(large)
    times |= alternate(saved, 5, 1, args.device)
    if rank == 0:
        describe(args)
        print_row(['what', 'ms', '% of an iteration'], head=True)
        rows = []
        for name, ms in times.items():
            count = 10 if 'looks' in name else 1
            share = 100 * ms / count / times['iteration'] if name in every else None
            rows.append(dict(what=name, ms=ms, percent=share))
            print_row([name, f'{ms:.3f}', '' if share is None else f'{share:.3f}'])
        save(args, rows)
    if args.processes > 1:
        distributed.destroy_process_group()


def main() -> None:
    parser = arguments(__doc__, processes=2, batch=64, side=16, repeats=20)
    add_training(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (args, f'file://{folder}/meeting'), nprocs=args.processes)


if __name__ == '__main__':
    main()
