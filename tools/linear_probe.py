"""Evaluate a calibrated checkpoint at all widths: linear probes, nearest neighbours, few labels, fine-tuning.

us3l probe us3l_mm::linear/r18_1xb512-100e_cifar100.py CHECKPOINT --widths 1.0 0.5 0.25
us3l probe us3l_mm::linear/r18_1xb256-100e_folder.py CHECKPOINT --data-root FOLDER --image-size 64
us3l probe CONFIG CHECKPOINT --protocol fast --few-labels 1% 10
us3l probe CONFIG CHECKPOINT --protocol finetune --few-labels 1% --epochs 60
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, add_own_data, checked, count_from, number_in, own_data, run_main
from us3l_mm.utils.files import write_files

NAMES = dict(paper='linear_probe', fast='fast_probe', finetune='finetune')  # of the files with the results


def few_labels(text: str) -> str:
    """Check an entry of ``--few-labels``."""
    from us3l_mm.datasets import parse_few  # here: --help need not wait for it

    parse_few(text)
    return text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a linear probe, such as configs/linear/r18_4xb512-60e_in1k.py')
    parser.add_argument(
        'checkpoint',
        help='checkpoint of the pretraining, calibrated by `us3l calibrate`, such as epoch_100_calibrated.pth',
    )
    parser.add_argument('--widths', type=parse_single_width, nargs='+', help='widths; those of the config if not given')
    parser.add_argument(
        '--protocol',
        choices=list(NAMES),
        default='paper',
        help='paper: train linear heads by the config, as the paper does. fast: compute features once, solve the heads '
        'by L-BFGS, and let neighbours vote. finetune: train the whole network of each width (default: %(default)s)',
    )
    parser.add_argument(
        '--few-labels',
        type=checked(few_labels),
        nargs='+',
        default=[],
        help='fast and finetune: draws of labels to learn from, such as 1%% of them, or 10 of each class',
    )
    parser.add_argument('--seeds', type=count_from(1), default=3, help='draws of few labels (default: %(default)s)')
    parser.add_argument(
        '--lr', type=number_in('(0, inf)'), default=0.05, help='finetune: rate for 256 images (default: %(default)s)'
    )
    add_own_data(parser)
    parser.add_argument('--work-dir', help='where logs and results go; work_dirs/<name of the config> if not given')
    parser.add_argument(
        '--resume', action='store_true', help='paper: continue from the latest checkpoint in the work dir'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='paper: delete the checkpoints in the work dir and start anew'
    )
    parser.add_argument(
        '--no-check', action='store_true', help='start without a look at a sample of the data; see `us3l check-data`'
    )
    parser.add_argument('--amp', action='store_true', help='paper and finetune: train in mixed precision')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.few_labels and args.protocol == 'paper':
        parser.error('--few-labels needs --protocol fast or finetune')
    if args.protocol == 'fast' and (args.amp or args.launcher != 'none'):
        parser.error('--protocol fast runs in one process and in float32: leave --amp and --launcher out')
    if args.protocol != 'paper' and (args.resume or args.overwrite):
        parser.error(f'--protocol {args.protocol} goes on by itself: leave --resume and --overwrite out')
    return args


def main() -> None:
    args = parse_args()
    from mmengine.logging import MMLogger  # here: --help need not wait for them

    from us3l_mm.config import OwnData, find_class, load_config, require_data, trained_side
    from us3l_mm.evaluation.finetune import finetune_rows
    from us3l_mm.evaluation.probe import fast_rows, paper_rows
    from us3l_mm.models import LinearProbe
    from us3l_mm.visualization import probe_files, probe_table

    own = OwnData(**own_data(args))
    if own.data_root is not None and own.image_size is None:
        own = replace(own, image_size=trained_side(args.checkpoint))
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher, own=own)
    kind = find_class((cfg.get('model') or {}).get('type'), cfg.get('default_scope'))
    if kind is None or not issubclass(kind, LinearProbe):
        found = 'no model' if kind is None else f'a model of type {kind.__name__}'
        raise SystemExit(
            f'{args.config} is no linear probe: it has {found}. Give a config such as those in configs/linear, with '
            f"model.type='us3l_mm.LinearProbe'; others train by `us3l train`"
        )
    require_data(cfg, ['train_dataloader', 'val_dataloader', 'test_dataloader'])
    if args.widths is not None:
        cfg.model.widths = args.widths
    cfg.resume, cfg.overwrite = args.resume, args.overwrite
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=args.checkpoint)
    if not args.no_check:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='us3l_mm.CheckDataHook')]
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if args.protocol == 'paper':
        rows = paper_rows(cfg)
    elif args.protocol == 'fast':
        rows = fast_rows(cfg, args.checkpoint, args.few_labels, args.seeds)
    else:
        rows = finetune_rows(cfg, args.few_labels, args.seeds, args.lr)
    if int(os.environ.get('RANK', 0)) == 0:
        out = Path(cfg.work_dir, NAMES[args.protocol])
        result = dict(config=args.config, checkpoint=args.checkpoint, protocol=args.protocol, widths=rows)
        write_files(probe_files(out, result, f'{Path(args.config).stem}, {args.protocol}'), force=True)
        MMLogger.get_current_instance().info(f'saved {out}.json, .md, .csv and .png\n{probe_table(rows)}')


if __name__ == '__main__':
    run_main(main)
