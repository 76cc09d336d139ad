"""Train linear probes on a calibrated checkpoint, at all widths in one pass over the data.

python tools/linear_probe.py configs/linear/r18_1xb512-100e_cifar100.py CHECKPOINT --widths 1.0 0.5 0.25
python tools/linear_probe.py configs/linear/r18_1xb256-100e_folder.py CHECKPOINT --data-root FOLDER --image-size 64
"""

import argparse
from dataclasses import replace
from pathlib import Path

from mmengine.fileio import dump
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader

from us3l_mm.deploy.costs import width_complexity
from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, add_own_data, own_data
from us3l_mm.utils.files import write_text
from us3l_mm.utils.tables import image_text, markdown_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train and test linear probes at several widths')
    parser.add_argument('config', help='config of a linear probe, such as configs/linear/r18_4xb512-60e_in1k.py')
    parser.add_argument(
        'checkpoint',
        help='checkpoint of the pretraining, calibrated by tools/calibrate_bn.py, such as epoch_100_calibrated.pth',
    )
    parser.add_argument('--widths', type=parse_single_width, nargs='+', help='widths; those of the config if not given')
    add_own_data(parser)
    parser.add_argument('--work-dir', help='where logs and results go; work_dirs/<name of the config> if not given')
    parser.add_argument('--resume', action='store_true', help='continue from the latest checkpoint in the work dir')
    parser.add_argument(
        '--overwrite', action='store_true', help='delete the checkpoints in the work dir and train from the start'
    )
    parser.add_argument(
        '--no-check', action='store_true', help='start without a look at a sample of the data; see check_data.py'
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def table(rows: list[dict]) -> str:
    """Format a Markdown table with a line for each width."""
    metrics = [key for key in rows[0] if key.startswith('top')]
    header = ['width', 'image', 'params (M)', 'MACs (G)', *(f'{key} (%)' for key in metrics)]
    lines = [
        [f'{row["width"]:g}', image_text(row['size']), f'{row["params"] / 1e6:.2f}', f'{row["macs"] / 1e9:.3f}']
        + [f'{row[key]:.2f}' for key in metrics]
        for row in rows
    ]
    return markdown_table(header, lines)


def trained_side(checkpoint: str) -> int | None:
    """Side of the square images that a checkpoint was trained with, in pixels, if it tells."""
    meta = CheckpointLoader.load_checkpoint(checkpoint, 'cpu', logger='silent').get('meta') or {}
    sides = set(meta.get('input_size') or ())
    return sides.pop() if len(sides) == 1 else None


def main() -> None:
    args = parse_args()
    from us3l_mm.config import OwnData, find_class, load_config, require_data  # here: --help need not wait for them
    from us3l_mm.engine import ResumableRunner
    from us3l_mm.models import LinearProbe

    own = OwnData(**own_data(args))
    if own.data_root is not None and own.image_size is None:
        own = replace(own, image_size=trained_side(args.checkpoint))
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher, own=own)
    kind = find_class((cfg.get('model') or {}).get('type'), cfg.get('default_scope'))
    if kind is None or not issubclass(kind, LinearProbe):
        found = 'no model' if kind is None else f'a model of type {kind.__name__}'
        raise SystemExit(
            f'{args.config} is no linear probe: it has {found}. Give a config such as those in configs/linear, with '
            f"model.type='us3l_mm.LinearProbe'; others train by tools/train.py"
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
    runner = ResumableRunner.from_cfg(cfg)
    runner.train()
    metrics = runner.test()
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    backbone = model.backbone
    if model.fixed_width is not None:  # count the slimmable backbone at that width
        backbone = MODELS.build({**cfg.model.backbone, 'width': None, 'init_cfg': None})
    # Where no transform sets the size, the data set does.
    size = cfg.input_size or tuple(runner.test_dataloader.dataset[0]['inputs'].shape[-2:])
    rows = []
    for width in model.widths:
        suffix = f'_w{width:g}'
        accuracy = {key.split('/')[-1].removesuffix(suffix): v for key, v in metrics.items() if key.endswith(suffix)}
        rows.append({**width_complexity(backbone, width, size), **accuracy})
    if runner.rank == 0:
        out = Path(cfg.work_dir, 'linear_probe.json')
        result = dict(config=args.config, checkpoint=args.checkpoint, widths=rows)
        write_text(out, dump(result, file_format='json', indent=2))
        runner.logger.info(f'saved {out}\n{table(rows)}')


if __name__ == '__main__':
    main()
