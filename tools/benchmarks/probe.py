"""Compare what probes of several widths cost with what they must: the passes of the backbone.

OMP_NUM_THREADS=1 python tools/benchmarks/probe.py
OMP_NUM_THREADS=1 python tools/benchmarks/probe.py --config configs/linear/r18_1xb512-100e_cifar100.py --repeats 3

"paper": an epoch of training the heads of all widths over one of the full width alone. "fast": features of both splits
at all widths, heads with their choice of l2, and neighbours, over extracting the features alone. Weights are random;
the runs take turns, and what counts is the ratio of their medians.
"""

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from timing import alternate, arguments, describe, print_row, save

from us3l_mm.config import read_config
from us3l_mm.evaluation import extract_features, frozen_rows
from us3l_mm.slim import calibrate_bn

WIDTHS = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]


def main() -> None:
    parser = arguments(__doc__, repeats=5, warmup=1, channels=64)
    parser.add_argument('--config', default='configs/digits/r18_1xb128-20e_digits.py', help='config of a linear probe')
    args = parser.parse_args()
    cfg = read_config(args.config, {f'model.backbone.{part}_channels': args.channels for part in ('stem', 'base')})
    init_default_scope(cfg.default_scope)
    train, test = (Runner.build_dataloader(cfg[f'{split}_dataloader'], seed=0) for split in ('train', 'test'))
    probes = {}
    for name, widths in (('all', WIDTHS), ('one', WIDTHS[:1])):
        torch.manual_seed(0)
        model = MODELS.build({**cfg.model, 'widths': widths}).to(args.device)
        model.backbone.requires_grad_(False)
        calibrate_bn(model.backbone, widths, (model.data_preprocessor(batch)['inputs'] for batch in train))
        probes[name] = model.train(), build_optim_wrapper(model, cfg.optim_wrapper)

    def epoch(name: str) -> None:
        model, optimizer = probes[name]
        for batch in train:
            model.train_step(batch, optimizer)

    model = probes['all'][0]

    def features() -> list:
        return [extract_features(model.backbone, WIDTHS, loader, model.data_preprocessor) for loader in (train, test)]

    runs = {
        'an epoch of 9 widths by paper': lambda: epoch('all'),
        'an epoch of 1 width by paper': lambda: epoch('one'),
        'all of fast, 9 widths': lambda: frozen_rows(*features()),
        'one pass of 9 widths over both splits': features,
    }
    medians = list(alternate(runs, args.repeats, args.warmup, args.device).values())
    describe(args)
    print_row(['protocol', 'all (s)', 'compared with', 'that (s)', 'ratio of medians'], head=True)
    rows = []
    for i, (protocol, compared) in enumerate((('paper', 'one width'), ('fast', 'one pass of all widths'))):
        whole, part = (median / 1e3 for median in medians[2 * i : 2 * i + 2])
        rows.append(dict(protocol=protocol, seconds=whole, compared=compared, part=part, ratio=whole / part))
        print_row([protocol, f'{whole:.2f}', compared, f'{part:.2f}', f'{whole / part:.2f}'])
    save(args, rows)


if __name__ == '__main__':
    main()
