"""Fine-tune and test a detector at several widths of one pretrained backbone; write a table and a plot.

us3l det-widths us3l_mm::det/retinanet_r50_fpn_1x_coco.py CALIBRATED_CHECKPOINT --gpus 8
us3l det-widths us3l_mm::det/faster-rcnn_r50_fpn_voc-custom.py CALIBRATED_CHECKPOINT --widths 1.0 0.5 \
    --cfg-options data_root=FOLDER classes=cat,dog

Each step is a command of this project, printed before it runs. After an interruption the same command goes on where it
stopped. See docs/detection.md.
"""

import argparse
import json
import os.path as osp
import signal
import sys
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.deploy.costs import detector_costs
from us3l_mm.slim import parse_width, width_label
from us3l_mm.utils.arguments import CfgOptions, count_from, run_main
from us3l_mm.utils.commit import package_commit
from us3l_mm.utils.files import write_text
from us3l_mm.utils.jobs import StepFailed, run_step, run_unfinished
from us3l_mm.utils.tables import image_text, markdown_table
from us3l_mm.visualization import Curve, Panel, plot_panels

TOOLS = Path(__file__).resolve().parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config',
        help='config of a detector with a slimmable backbone, such as configs/det/retinanet_r18_fpn_1x_coco.py',
    )
    parser.add_argument(
        'checkpoint', help='checkpoint of the pretraining, calibrated for the widths, such as epoch_100_calibrated.pth'
    )
    parser.add_argument(
        '--widths',
        type=parse_width,
        nargs='+',
        default=[1.0, 0.75, 0.5, 0.25],
        help='widths, such as 0.5, or layer1=0.5,layer4=0.8 for parts (default: %(default)s)',
    )
    parser.add_argument(
        '--work-dir', type=Path, help='folder for everything; work_dirs/det_widths/<name of the config> if not given'
    )
    parser.add_argument(
        '--gpus', type=count_from(1), default=1, help='processes to train and test with (default: %(default)s)'
    )
    parser.add_argument('--print-only', action='store_true', help='run nothing, print and plot the results so far')
    parser.add_argument(
        '--cfg-options', nargs='+', action=CfgOptions, help='override config entries at all widths: key=value ...'
    )
    return parser.parse_args()


def width_config(args: argparse.Namespace, width: float | dict[str, float]) -> Config:
    """Make the config of a detector at one width, with the weights of the checkpoint."""
    from us3l_mm.config import load_config  # here: --help need not wait for it

    cfg = load_config(args.config, args.cfg_options, width=width)
    if cfg.input_size is None:  # before hours are spent
        raise SystemExit(
            f'{args.config} sets no size of images, for which MACs are counted: add a Resize to its pipeline'
        )
    if 'auto_scale_lr' in cfg:
        cfg.auto_scale_lr.enable = True  # the recipe's rate is for its number of GPUs
    cfg.det_widths = dict(gpus=args.gpus)  # a setting: another number of GPUs starts anew
    if not cfg.model.backbone.get('init_cfg'):
        cfg.model.backbone.init_cfg = dict(type='Pretrained')
    cfg.model.backbone.init_cfg.checkpoint = osp.abspath(args.checkpoint)
    shared = (cfg.model.get('roi_head') or {}).get('shared_head')
    if shared is not None:
        shared.init_cfg = cfg.model.backbone.init_cfg
    return cfg


def check_weights(cfg: Config) -> None:
    """Stop if the checkpoint is not calibrated for this width, before hours are spent on others."""
    try:
        MODELS.build(cfg.model.backbone).init_weights()
    except (AssertionError, FileNotFoundError, RuntimeError) as error:
        raise SystemExit(f'width {width_label(cfg.model.backbone.width)}: {error}') from error


def costs(cfg: Config) -> dict[str, float]:
    """Count parameters and MACs of a detector for one image of its test size."""
    from us3l_mm.config import input_size  # here: --help need not wait for it

    return detector_costs(MODELS.build({**cfg.model, 'init_cfg': None}), input_size(cfg))


def read_metrics(folder: Path) -> dict[str, float]:
    """Read the metrics of the last test in a folder, by name."""
    logs = sorted(folder.glob('*/*.json'))
    found = json.loads(logs[-1].read_text()) if logs else {}
    return {key: value for key, value in found.items() if '/' in key}


def run_one(folder: Path, configs: dict[str, Config], gpus: int, lock: int) -> None:
    """Train and test a detector at one width, except for steps that are done, and write ``result.json``.

    Raises:
        StepFailed: If a command fails.
    """
    cfg, work_dir = configs['detector'], folder / 'train'
    loop = cfg.train_cfg
    name = f'iter_{loop.max_iters}.pth' if 'max_iters' in loop else f'epoch_{loop.max_epochs}.pth'
    checkpoint = work_dir / name
    if not checkpoint.exists():
        run_step(TOOLS / 'train.py', [folder / 'detector.py', '--work-dir', work_dir, '--resume'], lock, gpus)
    if not checkpoint.exists():
        raise StepFailed(f'train left no {name} in {work_dir}')
    run_step(TOOLS / 'test.py', [folder / 'detector.py', checkpoint, '--work-dir', folder / 'test'], lock, gpus)
    metrics = read_metrics(folder / 'test')
    if not metrics:
        raise StepFailed(f'test logged no metrics in {folder / "test"}')
    result = dict(
        width=cfg.model.backbone.width,
        **costs(cfg),
        metrics=metrics,
        trained=name.removesuffix('.pth'),
        date=time.strftime('%Y-%m-%d'),
        commit=package_commit(),
    )
    write_text(folder / 'result.json', json.dumps(result, indent=2) + '\n')


def collect(out: Path) -> list[dict]:
    """Read the results of all widths, from the most MACs."""
    rows = [json.loads(path.read_text()) for path in out.glob('w*/result.json')]
    return sorted(rows, key=lambda row: row['macs'], reverse=True)


def markdown(rows: list[dict], title: str) -> str:
    """Format a Markdown table with a line for each width, and metrics in percent."""
    names = [name for name in rows[0]['metrics'] if rows[0]['metrics'][name] >= 0] if rows else []
    lines = [
        [
            width_label(row['width']),
            f'{row["params"] / 1e6:.2f}',
            f'{row["macs"] / 1e9:.4g}',
            *(f'{100 * row["metrics"].get(name, float("nan")):.1f}' for name in names),
        ]
        for row in rows
    ]
    table = markdown_table(['width', 'params (M)', 'MACs (G)', *(f'{name} (%)' for name in names)], lines)
    text = f'{title}, fine-tuned at each width.\n\n{table}'
    if rows:
        text += f'\n\nMACs of the detector for one image of {image_text(rows[0]["size"])} pixels.'
    return text


def plot(rows: list[dict], title: str, path: Path) -> None:
    """Plot each mean AP over MACs."""
    macs, notes = [row['macs'] / 1e9 for row in rows], [width_label(row['width']) for row in rows]
    names = [name for name in rows[0]['metrics'] if name.endswith('mAP')]
    curves = [Curve(macs, [100 * row['metrics'][name] for row in rows], name, notes) for name in names]
    plot_panels([Panel(curves, 'MACs per image (G)', 'AP (%)', title)], width=7, height=5).savefig(path)


def main() -> None:
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended; the same command goes on from here'))
    title = Path(args.config).stem
    out = args.work_dir or Path('work_dirs/det_widths') / title
    folders = {out / f'w{width_label(width)}': width for width in args.widths}
    if not args.print_only:
        runs = {folder: dict(detector=width_config(args, width)) for folder, width in folders.items()}
        for folder, configs in runs.items():
            init_default_scope(configs['detector'].get('default_scope') or 'mmdet')
            if not (folder / 'train' / 'last_checkpoint').exists():
                check_weights(configs['detector'])
        try:
            run_unfinished(runs, out, lambda folder, configs, lock: run_one(folder, configs, args.gpus, lock))
        except KeyboardInterrupt:
            raise SystemExit('interrupted; the same command goes on from here') from None
    rows = collect(out)
    text = markdown(rows, title)
    print(f'\n{text}')
    if rows:
        write_text(out / 'table.md', text + '\n')
        write_text(out / 'table.json', json.dumps(rows, indent=2) + '\n')
        plot(rows, title, out / 'table.png')
        print(f'\nWrote {out}/table.md, table.json and table.png')
    failures = {folder.name: folder / 'failed.txt' for folder in folders if (folder / 'failed.txt').exists()}
    if failures:
        why = '; '.join(f'{name}: {path.read_text().strip()}' for name, path in failures.items())
        raise SystemExit(f'failed: {why}; the same command tries again')


if __name__ == '__main__':
    run_main(main)
