"""Compare the time of a monitor with that of the epochs between two measurements, and see what CostHook costs.

OMP_NUM_THREADS=1 python tools/benchmarks/monitor.py --batch 16 --repeats 2
python tools/benchmarks/monitor.py --batch 512 --repeats 20 --warmup 5 --amp --channels-last

Images are noise, already in memory. The epochs are the cheapest, of the first stage of dynamic sampling, which train
the full width alone, and the mean of all stages; an iteration is timed with and without CostHook's part in it.
"""

import time

import torch
from mmpretrain.structures import DataSample
from timing import alternate, arguments, describe, print_row, save
from training import add_training, build_model, build_optimizer, make_views, set_time

from us3l_mm.evaluation import measure_widths
from us3l_mm.evaluation.monitor_images import MonitorImages
from us3l_mm.evaluation.training_cost import TrainingCost
from us3l_mm.utils.stopwatch import Stopwatch


class Noise(torch.utils.data.Dataset):
    """Labelled noise, in one view or two."""

    def __init__(self, count: int, side: int, classes: int, views: int) -> None:
        self.count, self.side, self.classes, self.views = count, side, classes, views

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        views = [torch.randn(3, self.side, self.side) for _ in range(self.views)]
        sample = DataSample().set_gt_label(index % self.classes)
        return dict(inputs=views if self.views > 1 else views[0], data_samples=sample)


def main() -> None:
    parser = arguments(
        __doc__, batch=16, side=32, repeats=3, warmup=1, images=1000, classes=100, epoch=50000, interval=10
    )
    add_training(parser)
    args = parser.parse_args()
    model, views = build_model(args), make_views(args)
    wrapper = build_optimizer(model, args.amp)
    wait = torch.cuda.synchronize if args.device != 'cpu' else lambda: None
    cost, watch = TrainingCost(), Stopwatch(torch.device(args.device))

    def counted() -> None:
        def on_pass(role, width, inputs):
            watch.switch(cost.add(role, width, sum(map(len, inputs)), round(20 * width) / 20))

        cost.start_iteration(0, 1.0)
        model.on_pass = on_pass
        model.train_step(dict(inputs=views), wrapper)
        model.on_pass = None
        watch.switch(None)
        for row, seconds in watch.read():
            cost.add_seconds(row, seconds)

    runs = dict(alone=lambda: model.train_step(dict(inputs=views), wrapper), counted=counted)
    stages = model.sampler.num_stages
    iterations = []
    for stage in range(stages):
        set_time(stage * 100 + 1, stages * 100)
        iterations.append(alternate(runs, args.repeats, args.warmup, args.device))
    unlabelled = MonitorImages(Noise(args.images, args.side, args.classes, 2), args.images, 0)
    labelled = MonitorImages(Noise(2 * args.images, args.side, args.classes, 1), 2 * args.images, 0)
    times = []
    for _ in range(1 if args.device == 'cpu' else 2):  # the first one warms up a GPU
        start = time.perf_counter()
        measure_widths(model, [1.0, 0.5, 0.25], unlabelled, labelled)
        wait()
        times.append(time.perf_counter() - start)
    describe(args)
    print_row(
        ['epoch', 'seconds', 'a measurement (s)', f'share at one in {args.interval} epochs', 'counted / alone'],
        head=True,
    )
    rows = []
    for name, chosen in (('full width only', iterations[:1]), ('mean of all stages', iterations)):
        alone, with_cost = (sum(row[key] for row in chosen) / len(chosen) for key in ('alone', 'counted'))
        seconds = alone / 1e3 * args.epoch / args.batch
        share = times[-1] / (args.interval * seconds)
        rows.append(dict(epoch=name, seconds=seconds, monitor=times[-1], share=share, counting=with_cost / alone))
        print_row([name, f'{seconds:.1f}', f'{times[-1]:.2f}', f'{100 * share:.2f} %', f'{with_cost / alone:.3f}'])
    save(args, rows)


if __name__ == '__main__':
    main()
