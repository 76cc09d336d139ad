"""Whether a GPU computes what the CPU does, and graphs what eager iterations do: the first part of gpu.py."""

import argparse
from dataclasses import dataclass

import torch
from gpu_data import batch_of_images, build_preprocessor
from gpu_setup import EPOCHS, Report, Setup, Steps, possible
from torch import Tensor
from training import set_time


@dataclass
class Trained:
    """The last loss of a training, and the weights before and after it."""

    loss: float
    before: Tensor
    after: Tensor

    def errors(self, exact: 'Trained') -> dict[str, float]:
        """Relative error of the loss, and of the change of all weights."""
        weights = (self.after - exact.after).norm() / (exact.after - exact.before).norm()
        return dict(loss=abs(self.loss - exact.loss) / abs(exact.loss), weights=float(weights))


def train(args: argparse.Namespace, speed: str, count: int, device: str) -> Trained:
    """Train for some iterations through all stages, or for one of the last stage; the learning rate changes."""
    steps = Steps(argparse.Namespace(**{**vars(args), 'device': device}), speed)
    steps.model.to(args.dtype)
    before, generator = steps.weights(), torch.Generator().manual_seed(1)
    shape = args.batch, 3, args.side, args.side
    for iteration in range(count):
        steps.views = [torch.randn(shape, generator=generator).to(device, args.dtype) for _ in range(2)]
        set_time(EPOCHS * iteration // count if count > 1 else 3 * EPOCHS // 4 + 51, EPOCHS, EPOCHS)
        for group in steps.wrapper.optimizer.param_groups:
            group['lr'] = 0.01 * (1 + iteration) / count
        loss = steps()['loss']
    return Trained(float(loss), before, steps.weights())


def correctness(report: Report, setup: Setup) -> None:
    """Compare views and an iteration in float64 with the CPU's, then iterations by graphs with eager ones."""
    torch.backends.cudnn.allow_tf32 = False
    with report.attempt('views'):
        batch, preprocessor = batch_of_images(64), build_preprocessor()
        expected = preprocessor(dict(inputs=batch), True)['inputs']
        preprocessor, batch = preprocessor.to(setup.device), batch.to(setup.device)
        for _ in range(3):  # the last one may be a replay
            found = preprocessor(dict(inputs=batch), True)['inputs']
        error = max(float((view.cpu() - other.cpu()).abs().max()) for view, other in zip(found, expected))
        report.add("views over the CPU's: largest error", f'{error:.1e}', '1e-3', error < 1e-3, error=error)
    # In float64: the rounding of float32 alone moves the change of the weights by some percent.
    wide = setup.args(batch=16, amp=False, channels_last=False, dtype=torch.float64)
    exact = train(wide, 'eager', 1, 'cpu')
    one_iteration(report, setup, 'eager', wide, exact)
    args = setup.args(batch=64, amp=False, channels_last=False, dtype=torch.float32)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    count = 3 if setup.tiny else 50
    what = f'{count} iterations through all stages'
    if possible(report, setup, what, 'graphs'):
        with report.attempt(f'{what}, graphs'):
            first, second = (train(args, 'eager', count, setup.device) for _ in range(2))
            spread = second.errors(first)['weights']
            error = train(args, 'graphs', count, setup.device).errors(first)['weights']
            text, bar = f'{error:.1e}; two eager runs: {spread:.1e}', 'twice that of two eager runs'
            name = f'{what}, graphs over eager: relative error of the change of weights'
            report.add(name, text, bar, error <= 2 * spread, error=error, spread=spread)
    one_iteration(report, setup, 'compiled', wide, exact)  # compiling may take all the time that is left


def one_iteration(report: Report, setup: Setup, speed: str, args: argparse.Namespace, exact: Trained) -> None:
    """Compare an iteration of the last stage in float64 with the CPU's."""
    what = 'an iteration in float64'
    if possible(report, setup, what, speed):
        with report.attempt(f'{what}, {speed}'):
            errors = train(args, speed, 1, setup.device).errors(exact)
            text = f'loss {errors["loss"]:.1e}, change of weights {errors["weights"]:.1e}'
            met = errors['loss'] < 1e-9 and errors['weights'] < 1e-6
            report.add(f"{what}, {speed}, over the CPU's: relative errors", text, '1e-9, 1e-6', met, **errors)
