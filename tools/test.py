"""Test a trained detector or classifier, at one width or several.

python tools/test.py configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py work_dirs/.../epoch_10.pth --width 0.5
python tools/test.py configs/det/slimmable-retinanet_r50_fpn_1x_coco.py CALIBRATED_CHECKPOINT --widths 1.0 0.5
"""

import argparse
import functools
import os.path as osp

from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.runner import Runner

from us3l_mm.slim import parse_width
from us3l_mm.utils.arguments import CfgOptions, run_main

# For detectors and classifiers: the visualizer, its hook with options, and the option for the folder.
DRAWING = {
    True: ('mmdet.DetLocalVisualizer', dict(type='mmdet.DetVisualizationHook', draw=True), 'test_out_dir'),
    False: (
        'mmpretrain.UniversalVisualizer',
        dict(type='mmpretrain.VisualizationHook', enable=True, interval=1),
        'out_dir',
    ),
}


def pickle_file(path: str) -> str:
    if not path.endswith(('.pkl', '.pickle')):
        raise argparse.ArgumentTypeError(f'predictions are pickled: give a file *.pkl, got {path}')
    return path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a trained model')
    parser.add_argument('config', help='config of a detector or a classifier, such as that in its work dir')
    parser.add_argument(
        'checkpoint', help='checkpoint of a training with this config, such as work_dirs/x/epoch_12.pth'
    )
    parser.add_argument('--work-dir', help='where logs go; work_dirs/<name of the config> if not given')
    parser.add_argument(
        '--width', type=parse_width, help='width at which the model was trained, if the config has another, such as 0.5'
    )
    parser.add_argument(
        '--widths',
        type=parse_width,
        nargs='+',
        help='test a slimmable detector at each of these widths, such as 1.0 0.5',
    )
    parser.add_argument('--out', type=pickle_file, help='write all predictions to this *.pkl file, such as found.pkl')
    parser.add_argument('--show-dir', help='draw the predictions into images in this folder, such as drawn')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test each image as it is and mirrored, or as tta_model and tta_pipeline of the config say',
    )
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.widths and (args.width is not None or args.out or args.show_dir or args.tta):
        parser.error('--widths cannot be combined with --width, --out, --show-dir or --tta')
    return args


def draw_predictions(cfg: Config, detector: bool, folder: str) -> None:
    """Change a config so that a test draws its predictions into images in ``folder``."""
    visualizer, hook, key = DRAWING[detector]
    cfg.visualizer = dict(type=visualizer, vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
    # An absolute path, because mmdet's hook joins a relative one to the work dir once per batch.
    hooks = cfg.setdefault('default_hooks', {})
    hooks.visualization = {**(hooks.get('visualization') or {}), **hook, key: osp.abspath(folder)}


def main() -> None:
    args = parse_args()
    from us3l_mm.config import is_detector, load_config, require_data, set_tta  # here: --help need not wait for it
    from us3l_mm.engine import BadImagesHook

    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher, args.width)
    if cfg.get('test_dataloader') is None:
        raise SystemExit(f'{args.config} has no test_dataloader; test a pretraining by `us3l probe`')
    require_data(cfg, ['test_dataloader'])
    cfg.load_from = args.checkpoint
    cfg.resume = False
    for part in (cfg.model.backbone, (cfg.model.get('roi_head') or {}).get('shared_head')):
        if part is not None:
            part.init_cfg = None  # the checkpoint has it all
    detector = is_detector(cfg)
    if args.show_dir is not None:
        draw_predictions(cfg, detector, args.show_dir)
    if args.tta:
        set_tta(cfg)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(BadImagesHook())  # a test must not skip images
    # Strict, because a checkpoint that lacks parts of the model would still give numbers.
    runner.load_checkpoint = functools.partial(runner.load_checkpoint, strict=True)
    if args.out is not None:
        kind = 'mmdet.DumpDetResults' if detector else 'DumpResults'
        runner.test_evaluator.metrics.append(runner.build_evaluator(dict(type=kind, out_file_path=args.out)).metrics[0])
    if not args.widths:
        runner.test()
        return
    from us3l_mm.evaluation.detector_widths import evaluate_widths, widths_table  # needs mmdet

    rows = evaluate_widths(runner, args.widths)
    if runner.rank == 0:
        out = osp.join(cfg.work_dir, 'widths.json')
        dump(dict(config=args.config, checkpoint=args.checkpoint, widths=rows), out, indent=2)
        runner.logger.info(f'saved {out}\n{widths_table(rows)}')


if __name__ == '__main__':
    run_main(main)
