"""Compare the time of a whole US3L pretraining with that of one at full width only.

OMP_NUM_THREADS=1 python tools/benchmarks/schedule.py --batch 16 --iterations 40
python tools/benchmarks/schedule.py --batch 512 --iterations 400 --warmup 400 --amp --channels-last

Both have the same base loss and a momentum teacher. The iterations are spread over the schedule, a quarter of them in
each stage of dynamic sampling. The two trainings take turns; what counts is the ratio of their total times.
"""

import time

import torch
from timing import arguments, describe, print_row, save
from training import add_training, build_model, build_optimizer, build_plain, make_views, set_time


def main() -> None:
    parser = arguments(__doc__, batch=16, side=32, iterations=40, warmup=2)
    add_training(parser)
    args = parser.parse_args()
    models = dict(plain=build_plain(args), us3l=build_model(args))
    wrappers = {
        name: build_optimizer(model, args.amp, weight_decay=1e-4 * (name == 'plain')) for name, model in models.items()
    }
    views = make_views(args)
    wait = torch.cuda.synchronize if args.device != 'cpu' else lambda: None
    stages = models['us3l'].sampler.num_stages
    times = {name: [0.0] * stages for name in models}
    warmup = [args.iterations * turn // args.warmup for turn in range(args.warmup)]  # spread over the schedule, too
    for turn, iteration in enumerate([*warmup, *range(args.iterations)]):
        set_time(iteration, args.iterations)
        for name, model in models.items():
            wait()
            start = time.perf_counter()
            model.train_step(dict(inputs=views), wrappers[name])
            wait()
            if turn >= args.warmup:
                times[name][stages * iteration // args.iterations] += time.perf_counter() - start
    describe(args)
    print_row(['stage', 'full width only (s)', 'all widths (s)', 'ratio'], head=True)
    rows = [dict(stage=stage, plain=times['plain'][stage], us3l=times['us3l'][stage]) for stage in range(stages)]
    rows.append(dict(stage='all', plain=sum(times['plain']), us3l=sum(times['us3l'])))
    for row in rows:
        row['ratio'] = row['us3l'] / row['plain']
        print_row([row['stage'], f'{row["plain"]:.1f}', f'{row["us3l"]:.1f}', f'{row["ratio"]:.2f}'])
    save(args, rows)


if __name__ == '__main__':
    main()
