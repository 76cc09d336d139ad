"""Count parameters, MACs and activation memory of a model at several widths, and measure its latency.

python tools/analysis_tools/analyze_widths.py CONFIG --widths 1.0 0.75 0.5 0.25

Costs don't depend on the weights, so no checkpoint is needed. They are those of the backbone of a pretraining, of the
whole classifier, or of backbone and neck of a detector.
"""

import argparse
import os.path as osp
from pathlib import Path

from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, add_measuring, check_measuring, run_main
from us3l_mm.utils.files import write_files
from us3l_mm.visualization.cost_report import cost_figure, cost_table, report_files

WIDTHS = [1.0, 0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Count and measure the costs of a model at several widths',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        'config',
        help='config of a pretraining, a linear probe, a classifier or a detector, such as configs/us3l/r18_4xb128.py',
    )
    parser.add_argument('--widths', type=parse_single_width, nargs='+', default=WIDTHS, help='widths')
    parser.add_argument('--no-latency', action='store_true', help='count only')
    parser.add_argument(
        '--out', help='files to write, without suffix; work_dirs/<name of the config>/widths if not given'
    )
    add_measuring(parser)
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    args = parser.parse_args()
    check_measuring(parser, args)
    return args


def main() -> None:
    args = parse_args()
    from us3l_mm.deploy.width_rows import width_rows  # here: --help need not wait for it

    rows, setting = width_rows(args, latency=not args.no_latency)
    out = Path(args.out or osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0], 'widths'))
    report = dict(config=args.config, setting=setting, widths=rows)
    files = report_files(out, cost_table(rows), report, cost_figure(rows, setting))
    write_files(files, force=True)
    print(f'{setting}\n{cost_table(rows)}\nsaved {", ".join(map(str, files))}')


if __name__ == '__main__':
    run_main(main)
