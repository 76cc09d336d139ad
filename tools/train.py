"""Train the model of a config: a pretraining, a classifier or a detector.

python tools/train.py configs/us3l/r50_8xb256.py
python tools/train.py configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py --width 0.5
python tools/train.py configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py --width layer1=0.5,layer4=0.8
python tools/train.py configs/us3l/r18_4xb128.py --data-root FOLDER --image-size 64 --epochs 100
python tools/train.py configs/det/retinanet_r18_fpn_1x_coco.py --data-root SET --width 0.5 --backbone CALIBRATED
"""

import argparse
import signal
import sys

from mmengine.config import Config

from us3l_mm.slim import parse_width
from us3l_mm.utils.arguments import CfgOptions, add_own_data, own_data, run_main


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a model', formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('config', help='config, such as configs/us3l/r18_4xb128.py')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; work_dirs/<name of the config> if not given')
    parser.add_argument(
        '--width',
        type=parse_width,
        help='width of the backbone, to fine-tune it: 0.5, or layer1=0.5,layer4=0.8 for parts',
    )
    parser.add_argument(
        '--backbone', metavar='CHECKPOINT', help='weights for the backbone, as of a calibrated pretraining'
    )
    add_own_data(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from this checkpoint, such as epoch_10.pth; without a path, from the latest one in the work dir',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='delete the checkpoints in the work dir and train from the start'
    )
    parser.add_argument(
        '--allow-missing',
        action='store_true',
        help='let parts of the model that a checkpoint to start from lacks keep random values',
    )
    parser.add_argument(
        '--no-check', action='store_true', help='start without a look at a sample of the data; see `us3l check-data`'
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='float16',
        choices=['float16', 'bfloat16'],
        help='train in mixed precision, float16 if not given; put it after CONFIG',
    )
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the total batch size')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def config_from_args(args: argparse.Namespace) -> Config:
    """Read the config and put the options of the command line into it."""
    from us3l_mm.config import OwnData, load_config  # here: --help need not wait for it

    options = dict(args.cfg_options or {})
    if args.backbone is not None:
        options['model.backbone.init_cfg'] = dict(type='Pretrained', checkpoint=args.backbone)
    own = OwnData(**own_data(args))
    cfg = load_config(args.config, options, args.work_dir, args.launcher, args.width, own)
    if args.amp == 'bfloat16':
        if cfg.model.get('roi_head'):
            raise SystemExit('--amp bfloat16 would round the boxes that features are pooled from; use --amp float16')
        for key in ('loss_scale', 'dtype'):  # which are for float16
            cfg.optim_wrapper.pop(key, None)
        cfg.optim_wrapper.type = 'us3l_mm.BFloat16OptimWrapper'
    elif args.amp == 'float16':
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    cfg.overwrite = args.overwrite
    if args.allow_missing:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='us3l_mm.CheckLoadedHook', allow_missing=True)]
    if not args.no_check:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='us3l_mm.CheckDataHook')]
    if args.resume is not None:
        cfg.resume = True
        if args.resume == 'auto':
            cfg.load_from_if_new = cfg.get('load_from')  # where there is nothing to resume yet
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SystemExit(f'--auto-scale-lr needs auto_scale_lr.base_batch_size in {args.config}')
        cfg.auto_scale_lr.enable = True
    return cfg


def main() -> None:
    args = parse_args()
    # The training itself answers these by a checkpoint. Before and after it there is nothing to save.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    from us3l_mm.config import require_data  # here: --help need not wait for them
    from us3l_mm.engine import ResumableRunner

    cfg = config_from_args(args)
    require_data(cfg, ['train_dataloader', 'val_dataloader', 'custom_hooks'])
    ResumableRunner.from_cfg(cfg).train()


if __name__ == '__main__':
    run_main(main)
