"""Measure runs that take turns, print tables and build dense networks, for all benchmarks."""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from us3l_mm.slim import to_dense
from us3l_mm.utils.arguments import count_from

torch.backends.cudnn.benchmark = True  # as in the configs of pretraining
Runs = dict[str, Callable[[], object]]


def arguments(description: str, **defaults: int) -> argparse.ArgumentParser:
    """Make a parser with the options of all benchmarks, and one for each integer of ``defaults``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars='@'
    )
    for name, value in defaults.items():
        least = 0 if name in ('warmup', 'workers') else min(value, 1)
        option = f'--{name.replace("_", "-")}'
        parser.add_argument(option, type=count_from(least), default=value, help='(default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument('--out', help='JSON file to write')
    return parser


def describe(args: argparse.Namespace) -> None:
    """Print device, torch version and options."""
    name = torch.cuda.get_device_name() if args.device != 'cpu' else f'cpu, {torch.get_num_threads()} thread(s)'
    rest = ', '.join(f'{key} {value}' for key, value in vars(args).items() if key not in ('device', 'out'))
    print(f'{name}, torch {torch.__version__}; {rest}')


def alternate(runs: Runs, repeats: int, warmup: int, device: str) -> dict[str, float]:
    """Measure the median time (ms) of each run; runs take turns, so that other programs disturb all of them."""
    wait = torch.cuda.synchronize if device != 'cpu' else lambda: None
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + repeats):
        for name, run in runs.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            if turn >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


class _Counter(TorchDispatchMode):
    """Counts operations that compute or copy, without views; of lists that differ in shape or strides, each tensor."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        lists = [arg for arg in args if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], torch.Tensor)]
        if function.name().startswith('aten::_foreach'):  # a few launches only if all lists are alike
            self.count += 1 if all(len(set(map(_layout, same))) == 1 for same in zip(*lists)) else len(lists[0])
        else:
            self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def _layout(tensor: torch.Tensor) -> tuple:
    """What lists must share to be computed together; the stride of an axis of one entry means nothing."""
    strides = [stride for size, stride in zip(tensor.shape, tensor.stride()) if size != 1]
    return tensor.shape, tensor.dtype, *strides


def operations(run: Callable[[], object]) -> int:
    """Count the operations of a run: launches for a GPU, whatever their time."""
    with _Counter() as counter:
        run()
    return counter.count


def kernels(run: Callable[[], object], device: str) -> list[dict]:
    """Profile a run: name, calls and time (ms) of each kernel of a GPU, or operation of a CPU, longest first."""
    on_gpu = device != 'cpu'
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as record:
        run()
        if on_gpu:
            torch.cuda.synchronize()
    rows = []
    for event in record.key_averages():
        if (event.device_type == DeviceType.CUDA) == on_gpu and not event.is_user_annotation:
            time = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            rows.append(dict(name=event.key, calls=event.count, ms=time / 1e3))
    return sorted(rows, key=lambda row: -row['ms'])


def print_row(cells: Sequence[object], head: bool = False) -> None:
    """Print a line of a Markdown table; below the head also the separator."""
    texts = [str(cell) for cell in cells]
    print(f'| {" | ".join(texts)} |' + ('\n' + '|---' * len(texts) + '|' if head else ''), flush=True)


def save(args: argparse.Namespace, rows: list[dict]) -> None:
    """Write the numbers to ``--out``."""
    if args.out:
        text = json.dumps(dict(arguments=vars(args), torch=torch.__version__, rows=rows), indent=2)
        Path(args.out).write_text(text + '\n')


def plain_net(net: nn.Module, width: float, example: torch.Tensor | None = None) -> nn.Module:
    """Build the dense network of ``net`` at ``width``, for training."""
    plain = to_dense(copy.deepcopy(net), width, example, with_statistics=False).train()
    for layer in plain.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as in slimmable ones, no running statistics
            layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    return plain
