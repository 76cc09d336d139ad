"""Show how much targets and gradients change during trainings by US3L, by width and loss: table, plot and JSON.

us3l temporal-consistency --runs work_dirs/a work_dirs/b --names MSE InfoNCE
us3l temporal-consistency CONFIG CHECKPOINT_A CHECKPOINT_B --widths 1.0 0.5

Runs are of trainings with us3l_mm.TemporalConsistencyHook, which compares the weights before and after an iteration;
those of one name are averaged. Two checkpoints of one training are compared with each other. See docs/insight.md.
"""

import argparse
import os.path as osp
import shlex
import sys
from pathlib import Path

import torch

from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, count_from, run_main


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config of a pretraining, such as work_dirs/x/x.py')
    parser.add_argument('checkpoints', nargs='*', help='two of its checkpoints, such as epoch_10.pth epoch_20.pth')
    parser.add_argument('--runs', nargs='+', help='in place of those, work dirs of trainings, such as work_dirs/x')
    parser.add_argument('--names', nargs='+', help='name of each run, such as MSE MSE NCE NCE; its folder if not given')
    parser.add_argument(
        '--widths',
        type=parse_single_width,
        nargs='+',
        default=[1.0, 0.75, 0.5, 0.25],
        help='widths to compare checkpoints at (default: 1.0 0.75 0.5 0.25); runs have those of their hook',
    )
    parser.add_argument(
        '--num-images', type=count_from(2), default=64, help='images to embed, for checkpoints (default: %(default)s)'
    )
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument(
        '--out',
        help='files to write, without suffix; if not given, insight/temporal_consistency in the folder that all runs '
        'share, insight/temporal_consistency_checkpoints beside the first checkpoint',
    )
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    args = parser.parse_args()
    if bool(args.runs) == bool(args.config) or len(args.checkpoints) != (0 if args.runs else 2):
        parser.error('give a config and two checkpoints, or --runs and work dirs')
    if args.names and len(args.names) != len(args.runs or ()):
        parser.error(f'--names needs a name for each of the {len(args.runs or ())} runs, got {len(args.names)}')
    return args


def compare_checkpoints(args: argparse.Namespace) -> list[dict]:
    """Embed the same images by two checkpoints, and compare; return a run of one point."""
    from mmengine.logging import MMLogger  # here: --help need not wait for it
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.runner import CheckpointLoader, Runner

    from us3l_mm.config import read_config, require_data
    from us3l_mm.evaluation.temporal_record import compare, describe
    from us3l_mm.evaluation.width_embeddings import check_guided, guidance, probe_views
    from us3l_mm.utils.bad_values import first_few
    from us3l_mm.utils.match_checkpoint import match_checkpoint

    cfg = read_config(args.config, args.cfg_options)
    require_data(cfg, ['train_dataloader'])
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    logger = MMLogger.get_instance('us3l_mm', log_level='INFO')
    model = MODELS.build(cfg.model).to(args.device).train()
    check_guided(model, args.widths)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    views = probe_views(loader.dataset, loader.collate_fn, model.data_preprocessor, args.num_images)
    moments = []
    for path in args.checkpoints:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger=logger)
        match = match_checkpoint(checkpoint, model, path, logger=logger)
        if match.missing:  # a teacher would start as a copy, and change as the online net does
            raise SystemExit(
                f'{path} lacks {first_few(match.missing)}: give whole checkpoints of the training of this config, '
                'as epoch_10.pth'
            )
        model.load_state_dict(match.state)
        moments.append(guidance(model, views, args.widths))
    name = ' to '.join(osp.splitext(osp.basename(path))[0] for path in args.checkpoints)
    return [dict(name=name, what=describe(model), points=[dict(iteration=None, rows=compare(*moments))])]


def read_runs(args: argparse.Namespace) -> list[dict]:
    """Read what the hook wrote to each work dir, and name the runs."""
    from us3l_mm.evaluation.temporal_record import read_run

    runs = [read_run(Path(run)) for run in args.runs]
    shared = osp.commonpath(args.runs) if len(runs) > 1 else osp.dirname(args.runs[0])
    names = args.names or [osp.relpath(run, shared or '.') for run in args.runs]
    return [dict(run, name=name) for run, name in zip(runs, names)]


def default_out(args: argparse.Namespace) -> Path:
    """Files to write where ``--out`` is not given."""
    if args.runs:
        return Path(osp.commonpath(args.runs), 'insight', 'temporal_consistency')
    return Path(osp.dirname(args.checkpoints[0]), 'insight', 'temporal_consistency_checkpoints')


def main() -> None:
    args = parse_args()
    from us3l_mm.evaluation.temporal_record import FILE, group_runs, report  # here: --help need not wait for it
    from us3l_mm.utils.files import write_files
    from us3l_mm.visualization.consistency import consistency_figure, consistency_table
    from us3l_mm.visualization.cost_report import report_files

    out = Path(args.out) if args.out else default_out(args)
    if len(args.runs or ()) > 1 and out.with_name(f'{out.name}.json') in [Path(run) / FILE for run in args.runs]:
        raise SystemExit(f'{out}.json holds one of the runs; give another --out')
    try:
        runs = read_runs(args) if args.runs else compare_checkpoints(args)
        groups = group_runs(runs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    found = report(runs, shlex.join(['us3l', 'temporal-consistency', *sys.argv[1:]]))
    table = consistency_table(groups)
    files = report_files(out, table, found, consistency_figure(groups, found['title']))
    write_files(files, force=True)
    print(f'{table}\n\n{found["says"]}\nsaved {", ".join(map(str, files))}')


if __name__ == '__main__':
    run_main(main)
