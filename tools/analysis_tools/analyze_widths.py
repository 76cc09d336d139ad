"""Parameters, MACs, activation memory and latency of a model at each of a list of widths.

python tools/analysis_tools/analyze_widths.py CONFIG --widths 1.0 0.75 0.5 0.25 --input 224

No checkpoint is needed: costs don't depend on the weights. Of a pretraining the backbone is counted, of a classifier
everything, of a detector backbone and neck.
"""

import argparse
import os.path as osp
import warnings
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger

import us3l_mm  # noqa: F401  before anything of mmcv.ops
from us3l_mm.deploy.costs import net_latency, plain_costs
from us3l_mm.deploy.plain_model import Inference, image_size, plain_model
from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import add_measuring, check_measuring
from us3l_mm.utils.files import write_files
from us3l_mm.visualization.cost_report import cost_figure, cost_table, report_files

WIDTHS = [1.0, 0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Costs of a model at each width', formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('config', help='config of a pretraining, a linear probe, a classifier or a detector')
    parser.add_argument('--widths', type=parse_single_width, nargs='+', default=WIDTHS, help='widths')
    parser.add_argument('--no-latency', action='store_true', help='count only, measure nothing')
    parser.add_argument('--out', help='files to write, without suffix; work_dirs/<config>/widths if not given')
    add_measuring(parser)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value ...')
    args = parser.parse_args()
    check_measuring(parser, args)
    return args


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('us3l_mm', log_level='ERROR')  # each width is loaded and counted
    rows = []
    for width in sorted(set(args.widths), reverse=True):
        plain = plain_model(args.config, width=width, cfg_options=args.cfg_options)
        net, size = Inference(plain), image_size(args.input, plain)
        row = dict(width=width, **plain_costs(net, size, args.batch))
        if not args.no_latency:
            row.update(net_latency(net, size, args.batch, args.device, args.warmup, args.repeats))
        rows.append(row)
    setting = (
        f'{plain.part}, {args.batch} x 3 x {size[0]} x {size[1]}, {args.device}, {torch.get_num_threads()} thread(s)'
    )
    out = Path(args.out or osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0], 'widths'))
    report = dict(config=args.config, setting=setting, widths=rows)
    files = report_files(out, cost_table(rows), report, cost_figure(rows, setting))
    write_files(files, force=True)
    print(f'{setting}\n{cost_table(rows)}\nsaved {", ".join(map(str, files))}')


if __name__ == '__main__':
    main()
