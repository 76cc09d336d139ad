"""Choose the widest width of a trained model within a budget; latency is measured on this machine.

python tools/analysis_tools/choose_width.py CONFIG CALIBRATED_CHECKPOINT --max-macs 1G
python tools/analysis_tools/choose_width.py CONFIG CALIBRATED_CHECKPOINT --max-latency-ms 20 --device cpu \
    --threads 1 --probe work_dirs/.../linear_probe.json

A width has to meet all budgets that are given. The exit status is 1 if none does.
"""

import argparse
import os.path as osp
import shlex
from pathlib import Path

from us3l_mm.deploy.budget import parse_amount, read_accuracy, widest_within, within
from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, add_measuring, check_measuring, checked, run_main
from us3l_mm.utils.files import write_files
from us3l_mm.visualization.cost_report import choice_figure, cost_table, report_files


class KeepText(CfgOptions):
    """Config entries, with their text beside them for the next command."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Keep and parse the entries."""
        namespace.cfg_text = values
        super().__call__(parser, namespace, list(values), option_string)


OPTIONS = {'macs': '--max-macs', 'params': '--max-params', 'latency_ms': '--max-latency-ms'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Choose the widest width of a trained model within a budget')
    parser.add_argument(
        'config',
        help='config of a pretraining, a linear probe, a classifier or a slimmable detector, such as work_dirs/x/x.py',
    )
    parser.add_argument(
        'checkpoint', help='its checkpoint, calibrated by `us3l calibrate`, such as epoch_100_calibrated.pth'
    )
    parser.add_argument(
        '--max-macs',
        type=checked(parse_amount),
        help='budget of multiply-accumulate operations for one image, such as 1.5G',
    )
    parser.add_argument('--max-params', type=checked(parse_amount), help='budget of parameters, such as 7M')
    parser.add_argument(
        '--max-latency-ms',
        type=checked(parse_amount),
        help='budget of the median latency of a batch, in ms, such as 20',
    )
    parser.add_argument(
        '--widths', type=parse_single_width, nargs='+', help='widths to choose from; all calibrated ones if not given'
    )
    parser.add_argument(
        '--probe',
        type=checked(read_accuracy),
        help='accuracy of each width, for table and plot, such as work_dirs/x/linear_probe.json',
    )
    parser.add_argument('--out', help='files to write, without suffix; CHECKPOINT_choice if not given')
    add_measuring(parser)
    parser.add_argument('--cfg-options', nargs='+', action=KeepText, help='override config entries: key=value ...')
    args = parser.parse_args()
    args.budgets = {key: getattr(args, option[2:].replace('-', '_')) for key, option in OPTIONS.items()}
    args.budgets = {key: budget for key, budget in args.budgets.items() if budget is not None}
    if not args.budgets:
        parser.error(f'give a budget: {", ".join(OPTIONS.values())}')
    if not osp.isfile(args.checkpoint):
        parser.error(f'no such file: {args.checkpoint}')
    check_measuring(parser, args)
    return args


def export_command(args: argparse.Namespace, chosen: dict) -> str:
    """Write the command that exports the chosen width, for the images that it was chosen by."""
    words = ['us3l', 'export', args.config, args.checkpoint, '--width', f'{chosen["width"]:g}']
    words += ['--format', 'onnx', '--input', *map(str, dict.fromkeys(chosen['size']))]
    return shlex.join([*words, *(['--cfg-options', *args.cfg_text] if args.cfg_options else [])])


def main() -> None:
    args = parse_args()
    from us3l_mm.deploy.width_rows import width_rows  # here: --help need not wait for it

    rows, setting = width_rows(args, args.checkpoint, latency='latency_ms' in args.budgets)
    for row in rows:
        if args.probe is not None:
            row['accuracy'] = args.probe.get(row['width'])
        row['fits'] = within(row, args.budgets)
    chosen = widest_within(rows, args.budgets)
    report = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        setting=setting,
        budgets=args.budgets,
        chosen=chosen and chosen['width'],
        widths=rows,
    )
    files = report_files(
        Path(args.out or f'{osp.splitext(args.checkpoint)[0]}_choice'),
        cost_table(rows),
        report,
        choice_figure(rows, args.budgets, chosen, setting),
    )
    write_files(files, force=True)
    print(f'{setting}\n{cost_table(rows)}\nsaved {", ".join(map(str, files))}')
    if chosen is None:
        least = ', '.join(f'{key} {min(row[key] for row in rows):.4g}' for key in args.budgets)
        raise SystemExit(
            f'no width is within the budget; the least there is: {least}; calibrate and give narrower --widths'
        )
    print(f'chosen: width {chosen["width"]:g}. Next: {export_command(args, chosen)}')


if __name__ == '__main__':
    run_main(main)
