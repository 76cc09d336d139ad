"""Compare an iteration of US3L with the least that its networks cost.

OMP_NUM_THREADS=1 python tools/benchmarks/step_over_floor.py --batch 32
python tools/benchmarks/step_over_floor.py --config configs/us3l/r50_8xb256.py --batch 64 --side 224 --amp

The floor: dense networks of three widths, forward and backward with their losses, the forward pass of a dense teacher
on both views, and an update of the optimizer with weight decay for each width. On top of it the iteration switches
widths, slices weights, averages the teacher, computes group regularisation and logs.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from timing import Runs, alternate, arguments, describe, operations, plain_net, print_row, save
from torch import Tensor, nn
from training import WIDTHS, add_training, build_model, build_optimizer, make_views, set_time

from us3l_mm.models import US3L


def plain_model(model: US3L, width: float, example: Tensor) -> US3L:
    """Copy the model with a dense backbone and projector of one width."""
    plain = copy.copy(model)
    plain._modules = dict(model._modules)  # the heads are shared
    net = plain_net(nn.Sequential(model.backbone, model.neck), width, example)
    plain.backbone, plain.neck = net
    return plain


def floor(model: US3L, views: list[Tensor], amp: bool) -> Callable[[], None]:
    """Return a function that runs an iteration of dense networks."""
    example = views[0][:2].cpu()
    nets = {width: plain_model(model, width, example) for width in WIDTHS}
    teacher = plain_net(nn.Sequential(model.teacher.backbone, model.teacher.neck), 1.0, example)
    teacher.requires_grad_(False)
    trained = nn.ModuleList([nets[1.0].backbone, nets[1.0].neck, model.head, model.distill_predictor])
    wrapper = build_optimizer(trained, amp, weight_decay=1e-4)

    def run() -> None:
        with wrapper.optim_context(trained), torch.inference_mode():
            targets = [teacher(view)[0] for view in views]
        targets = [target.clone() for target in targets]
        for width, net in nets.items():
            with wrapper.optim_context(trained):
                loss = net.loss(views, None, targets, distill=width < 1)['loss']
            wrapper.backward(loss)
            wrapper.step()  # of all weights: those outside a narrow net keep the gradients of the wide one
            if width < 1:
                nn.Sequential(net.backbone, net.neck).zero_grad()
        wrapper.zero_grad()

    return run


def make_runs(args: argparse.Namespace, **changes) -> Runs:
    """Return functions that run an iteration of dense networks, and one of US3L with some options changed."""
    model = build_model(args, sampler=dict(widths=WIDTHS, dynamic=False), **changes)
    wrapper, views = build_optimizer(model, args.amp), make_views(args)
    set_time(101, 400)  # group regularisation has begun, and the penalty is not logged
    return dict(
        floor=floor(build_model(args), views, args.amp),
        us3l=lambda: model.train_step(dict(inputs=views), wrapper),
    )


def main() -> None:
    parser = arguments(__doc__, batch=32, side=32, repeats=10, warmup=2)
    add_training(parser)
    args = parser.parse_args()
    runs = make_runs(args)
    describe(args)
    print_row(['floor (ms)', 'iteration of US3L (ms)', 'ratio of medians', 'operations of each'], head=True)
    row = alternate(runs, args.repeats, args.warmup, args.device)
    row.update(ratio=row['us3l'] / row['floor'], operations={name: operations(run) for name, run in runs.items()})
    counts = ', '.join(f'{count}' for count in row['operations'].values())
    print_row([f'{row["floor"]:.1f}', f'{row["us3l"]:.1f}', f'{row["ratio"]:.3f}', counts])
    save(args, [row])


if __name__ == '__main__':
    main()
