"""The parts of gpu.py: what is measured, with its bars. Each takes the report and the setup, and adds rows."""

import re
from collections.abc import Callable

import layer_overhead
import memory as memories
import precision as precisions
import step_over_floor
import torch
from gpu_correctness import correctness
from gpu_data import loader, time_views, views
from gpu_setup import EPOCHS, ITERATIONS, SPEEDS, STAGES, Report, Setup, Steps, option, possible, ready, to_stage
from timing import alternate
from timing import kernels as profile_kernels
from training import WIDTHS, build_model, build_plain

__all__ = [
    'correctness',
    'kernels',
    'layers',
    'loader',
    'memory',
    'precision',
    'r50',
    'stages',
    'step',
    'views',
]
TOP = 25  # kernels listed
# Names of kernels, and of operations on a CPU; the first pattern that fits counts.
GROUPS = {
    'fused by the compiler': 'triton',
    'copies and formats': 'copy|memcpy|memset|nhwc_?to_?nchw|nchw_?to_?nhwc|convertTensor|fill|zero_|CatArray|transpose'
    '|aten::(cat|clone|contiguous|empty|zeros)',
    'convolution backward': 'dgrad|wgrad|bprop|convolution_backward',
    'batch norm': 'batch_?norm|bn_fw|bn_bw',
    'optimizer, decay, teacher': 'multi_tensor|foreach',
    'convolution forward': 'fprop|conv|implicit|cudnn',
    'matrix products': 'gemm|cutlass|cublas|addmm|::mm|gemv',
    'sums and softmax': 'reduce|softmax|sum|mean|norm',
    'elementwise': 'elementwise|vectorized|unrolled|aten::',
    'other': '',
}


def total(rows: list[dict]) -> float:
    """Time (ms) of all kernels."""
    return sum(row['ms'] for row in rows)


def stages(report: Report, setup: Setup) -> None:
    """Measure an iteration of each stage, its kernels, and what 400 epochs take by that."""
    args = setup.args()
    with report.attempt('views'):
        report.found['views'] = time_views(setup)[0]
    for speeds in (SPEEDS[:2], SPEEDS[2:]):  # compiling takes longest, so it comes when the others are measured
        to_stage(0)
        runs = ready(report, setup, 'iterations', speeds, lambda speed: Steps(args, speed))
        for stage, widths in enumerate(STAGES):
            to_stage(stage)
            what = f'iteration, stage {stage} ({" ".join(f"{width:g}" for width in widths)})'
            runs = {speed: run for speed, run in runs.items() if _runs(report, f'{what}, {speed}', run)}
            for speed, ms in alternate(runs, args.repeats, args.warmup, setup.device).items():
                rows = profile_kernels(runs[speed], setup.device)
                report.found.setdefault('kernels', {})[speed] = rows  # those of stage 3 in the end
                report.found.setdefault('stages', {}).setdefault(speed, []).append(ms)
                busy = total(rows) / ms
                text = f'{ms:.1f} ms, kernels {total(rows):.1f} ms in {sum(row["calls"] for row in rows)} launches'
                bar, met = '1.10 of the kernels, busy 90 %', ms <= 1.1 * total(rows)
                report.add(f'{what}, {speed}', f'{text}, GPU busy {busy:.0%}', bar, met, ms=ms, kernels=total(rows))
        for speed in runs:
            _predict(report, speed)
        runs.clear()
        setup.reset()


def _runs(report: Report, what: str, run: Steps) -> bool:
    """Whether a run survives a stage it has not seen, whose widths it may have to capture or compile."""
    with report.attempt(what):
        run()
        return True
    return False


def _predict(report: Report, speed: str) -> None:
    """Add what all epochs take by the times of the stages, without and with the views."""
    each = report.found['stages'][speed]
    step = sum(each) / len(each)
    for what, ms in (('', step), (' and views', step + report.found.get('views', 0))):
        minutes = EPOCHS * ITERATIONS * ms / 6e4
        text = f'{minutes:.1f} minutes, {ITERATIONS * ms / 1e3:.1f} s an epoch'
        report.add(f'{EPOCHS} epochs, iterations{what}, {speed}', text, '25 minutes', minutes <= 25, minutes=minutes)


def kernels(report: Report, setup: Setup) -> None:
    """Group the kernels of an iteration in stage 3 by what they do, and list the longest."""
    found = report.found.get('kernels')
    if not found:
        to_stage(3)
        found = {
            speed: profile_kernels(run, setup.device)
            for speed, run in ready(report, setup, 'stage 3', SPEEDS, lambda speed: Steps(setup.args(), speed)).items()
        }
    for speed, rows in found.items():
        groups = {name: dict(ms=0.0, calls=0) for name in GROUPS}
        for row in rows:
            group = groups[group_of(row['name'])]
            group['ms'] += row['ms']
            group['calls'] += row['calls']
        everything = total(rows)
        print(f'\n{speed}, the longest of {everything:.2f} ms:', flush=True)
        for row in rows[:TOP]:
            print(f'{row["ms"]:9.3f} ms {row["calls"]:6d} x {group_of(row["name"])}: {row["name"][:200]}', flush=True)
        for name, group in sorted(groups.items(), key=lambda pair: -pair[1]['ms']):
            if group['calls']:
                text = f'{group["ms"]:.2f} ms, {group["ms"] / everything:.0%}, {group["calls"]} launches'
                report.add(f'stage 3, {speed}: {name}', text, **group)
        report.add(f'stage 3, {speed}: all kernels', f'{everything:.2f} ms', ms=everything, top=rows[:TOP])


def group_of(name: str) -> str:
    """What a kernel does, by its name."""
    return next(group for group, pattern in GROUPS.items() if re.search(pattern, name, re.IGNORECASE))


def step(report: Report, setup: Setup) -> None:
    """Measure an iteration over its floor of plain networks, by the clock and by the kernels of the floor."""
    args = setup.args()
    for speed in SPEEDS[:2]:
        if not possible(report, setup, 'iteration over its floor', speed):
            continue
        with report.attempt(f'iteration over its floor, {speed}'):
            runs = step_over_floor.make_runs(args, **option(speed))
            times = alternate(runs, args.repeats, args.warmup, setup.device)
            ratio, least = times['us3l'] / times['floor'], total(profile_kernels(runs['floor'], setup.device))
            text = f'{times["us3l"]:.1f} / {times["floor"]:.1f} ms = {ratio:.3f}'
            report.add(
                f'iteration over its eager floor, {speed}', text, '1.05 to 1.10', ratio <= 1.1, ratio=ratio, **times
            )
            ratio = times['us3l'] / least
            text = f'{times["us3l"]:.1f} / {least:.1f} ms = {ratio:.3f}'
            report.add(
                f"iteration over the kernels' time of its floor, {speed}", text, '1.10', ratio <= 1.1, ratio=ratio
            )


def layers(report: Report, setup: Setup) -> None:
    """Measure slimmable layers over plain ones, by the clock and by their kernels."""
    args = setup.args(batch=256, backbone='us3l_mm.SlimmableResNet_CIFAR', depth=18)
    runs_at = layer_overhead.make_runs(args)
    for width in (0.25,) if setup.tiny else (1.0, 0.75, 0.5, 0.25):
        with report.attempt(f'layers, {width:g}'):
            runs = runs_at(width)
            times = alternate(runs, args.repeats, args.warmup, setup.device)
            busy = {name: total(profile_kernels(run, setup.device)) for name, run in runs.items()}
            ratio, by_kernels = (each['shared'] / each['plain'] for each in (times, busy))
            text = f'{times["shared"]:.1f} / {times["plain"]:.1f} ms = {ratio:.3f}; kernels {by_kernels:.3f}'
            report.add(
                f'layers at {width:g}, shared over plain', text, '1.05', ratio <= 1.05, ratio=ratio, kernels=busy
            )


def precision(report: Report, setup: Setup) -> None:
    """Measure each precision, each with and without graphs, in turns with float32."""
    args = setup.args(moved=0, steps=0, lr=1e-2, speed=['graphs'] if setup.device == 'cuda' else [])
    args.repeats, args.warmup = max(1, args.repeats // 4), args.warmup // 2  # float32 takes its turn beside each
    data = precisions.batches(args, 2)
    base = precisions.Training(args, data, {})
    for name, way in precisions.ways(args).items():
        with report.attempt(name):
            training = base if name == 'float32' else precisions.Training(args, data, way)
            row = precisions.measure(args, name, training, base)
            text = f'{row["ms"]:.1f} ms, {1e3 * args.batch / row["ms"]:.0f} images/s, {row["speed"]:.2f} times float32'
            report.add(name, text, ms=row['ms'], speed=row['speed'])
        training = None
        setup.reset()
    for speed in SPEEDS[1:2]:
        possible(report, setup, 'precisions', speed)


def memory(report: Report, setup: Setup) -> None:
    """Measure the peak memory of an iteration over that of the full width only."""
    args = setup.args()

    def peaks(build: Callable, **changes) -> dict[str, float]:
        setup.reset()
        found = dict(tensors=memories.measure(args, build, **changes))
        if setup.device == 'cuda':  # what graphs keep to themselves is no tensor
            found['reserved'] = torch.cuda.max_memory_reserved() / 2**20
        return found

    plain = peaks(build_plain)
    for speed in SPEEDS[:2]:
        if possible(report, setup, 'peak memory', speed):
            with report.attempt(f'peak memory, {speed}'):
                widths = dict(widths=WIDTHS, dynamic=False)
                for what, peak in peaks(build_model, sampler=widths, **option(speed)).items():
                    ratio = peak / plain[what]
                    text = f'{peak:.1f} / {plain[what]:.1f} MiB = {ratio:.3f}'
                    what = f'peak memory ({what}) over the full width only, {speed}'
                    report.add(what, text, '1.05', ratio <= 1.05, ratio=ratio)


def r50(report: Report, setup: Setup) -> None:
    """Measure an iteration of ResNet-50 at 224 pixels."""
    for batch in (64,) if setup.tiny else (64, 128):
        args = setup.args('r50', batch=batch, side=224)
        args.repeats = max(1, args.repeats // 2)
        to_stage(3)
        runs = ready(report, setup, f'R50, batch {args.batch}', SPEEDS[:2], lambda speed: Steps(args, speed))  # noqa: B023
        for speed, ms in alternate(runs, args.repeats, args.warmup, setup.device).items():
            busy, speed_of = total(profile_kernels(runs[speed], setup.device)), 1e3 * args.batch / ms
            report.found['r50'] = max(report.found.get('r50', 0), speed_of)
            text = f'{ms:.1f} ms, {speed_of:.0f} images/s, kernels {busy:.1f} ms, GPU busy {busy / ms:.0%}'
            report.add(f'R50, batch {args.batch}, stage 3, {speed}', text, 'busy 90 %', busy >= 0.9 * ms, ms=ms)
        runs.clear()
        setup.reset()
