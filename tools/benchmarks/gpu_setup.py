"""What the parts of gpu.py share: sizes, the widths of each stage, and iterations in each way."""

import argparse
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo as dynamo
from torch import Tensor
from training import build_model, build_optimizer, make_views, set_time

from us3l_mm.registry import TASK_UTILS

ROOT = Path(__file__).parents[2]
CONFIGS = dict(
    fast='configs/us3l/r18_1xb512-400e-fast_cifar100.py',
    r50='configs/us3l/r50_8xb256.py',
    tiny='configs/digits/r18_1xb64-16e_digits.py',
)
SPEEDS = ('eager', 'graphs', 'compiled')
EPOCHS, ITERATIONS = 400, 97  # of the goal config, and of each epoch
STAGES = ((1.0,), (1.0, 0.9, 0.75), (1.0, 0.75, 0.5), (1.0, 0.6, 0.25))
Report = Any  # gpu.Report; scripts do not import each other's main file


@TASK_UTILS.register_module()
class StageWidths:
    """A sampler whose widths are those of ``STAGES``, all of them in every iteration of their stage."""

    widths = sorted({width for stage in STAGES for width in stage}, reverse=True)
    width_range, count, num_stages = (0.25, 1.0), len(widths), len(STAGES)

    def __call__(self, iteration: int, time: int, max_time: int) -> list[float]:
        return list(STAGES[len(STAGES) * time // max_time])


@dataclass
class Setup:
    """Device, and whether all sizes are the smallest."""

    device: str
    tiny: bool

    def args(self, config: str = 'fast', batch: int = 512, side: int = 32, **changes) -> argparse.Namespace:
        """Return arguments for the other benchmarks: on a GPU in bfloat16 and channels_last, unless changed."""
        if self.tiny:
            config, batch, side = 'tiny', 8, 16
        common = dict(device=self.device, config=str(ROOT / CONFIGS[config]), cfg_options=None, out=None)
        sizes = dict(batch=batch, side=side, repeats=1 if self.tiny else 20, warmup=0 if self.tiny else 4)
        fast = dict(amp=self.device == 'cuda', channels_last=self.device == 'cuda')
        return argparse.Namespace(**{**common, **sizes, **fast, **changes})

    def reset(self) -> None:
        """Free memory, and undo what a part before may have set."""
        dynamo.reset()  # what a compilation that was cut off may have left
        gc.collect()
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
        if self.device == 'cuda':
            torch.cuda.empty_cache()


class Steps:
    """Iterations of US3L on two views of noise, in one way; ``changes`` are options of the model."""

    def __init__(self, args: argparse.Namespace, speed: str = 'eager', **changes) -> None:
        self.model = build_model(args, **option(speed), **{'sampler': dict(type='us3l_mm.StageWidths'), **changes})
        self.wrapper, self.views = build_optimizer(self.model, args.amp), make_views(args)

    def __call__(self) -> dict:
        return self.model.train_step(dict(inputs=self.views), self.wrapper)

    def weights(self) -> Tensor:
        """All parameters as one vector in float64, on the CPU."""
        return torch.cat([p.detach().flatten().double().cpu() for p in self.model.parameters()])


def option(speed: str) -> dict:
    """The option of a model for a speed; none for eager, the default."""
    return {} if speed == 'eager' else dict(speed=speed)


def possible(report: Report, setup: Setup, what: str, speed: str) -> bool:
    """Whether a speed can be measured here; if not, a row says why."""
    if speed == 'eager' or setup.device == 'cuda':
        return True
    report.add(f'{what}, {speed}', 'needs a GPU', result='not measured')
    return False


def ready(
    report: Report, setup: Setup, what: str, speeds: tuple[str, ...], make: Callable[[str], Callable]
) -> dict[str, Callable]:
    """Make the run of each speed and try it, so that one that fails is reported and the others are measured."""
    runs = {}
    for speed in speeds:
        if possible(report, setup, what, speed):
            with report.attempt(f'{what}, {speed}'):
                run = make(speed)
                for _ in range(1 if setup.tiny else 3):
                    run()
                runs[speed] = run
    return runs


def to_stage(stage: int) -> None:
    """Set the time of training to a stage, at an iteration that logs no penalty."""
    set_time(EPOCHS * stage // len(STAGES) + 51, EPOCHS, EPOCHS)
