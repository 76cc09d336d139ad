"""Choose the widest width of a trained model within a budget; latency is measured on this machine.

python tools/analysis_tools/choose_width.py CONFIG CALIBRATED_CHECKPOINT --max-macs 1G
python tools/analysis_tools/choose_width.py CONFIG CALIBRATED_CHECKPOINT --max-latency-ms 20 --device cpu \
    --threads 1 --input 224 --probe work_dirs/.../linear_probe.json

With several budgets, all of them count. The exit status is 1 if no width fits.
"""

import argparse
import os.path as osp
import warnings
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger

import us3l_mm  # noqa: F401  before anything of mmcv.ops
from us3l_mm.deploy.budget import parse_amount, read_accuracy, widest_within, within
from us3l_mm.deploy.costs import net_latency, plain_costs
from us3l_mm.deploy.plain_model import Inference, image_size, list_widths, plain_model
from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import add_measuring, check_measuring, checked
from us3l_mm.utils.files import write_files
from us3l_mm.visualization.cost_report import choice_figure, cost_table, report_files

OPTIONS = {'macs': '--max-macs', 'params': '--max-params', 'latency_ms': '--max-latency-ms'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Choose the widest width within a budget')
    parser.add_argument('config', help='config of a pretraining, a linear probe or a classifier')
    parser.add_argument('checkpoint', help='its checkpoint, which tools/calibrate_bn.py wrote')
    parser.add_argument('--max-macs', type=checked(parse_amount), help='for one image: 500M, 1.5G')
    parser.add_argument('--max-params', type=checked(parse_amount), help='7M')
    parser.add_argument('--max-latency-ms', type=checked(parse_amount), help='median for a batch, in milliseconds')
    parser.add_argument(
        '--widths', type=parse_single_width, nargs='+', help='candidates; all calibrated ones if not given'
    )
    parser.add_argument('--probe', type=checked(read_accuracy), help='linear_probe.json, for accuracies by width')
    parser.add_argument('--out', help='files to write, without suffix; CHECKPOINT_choice if not given')
    add_measuring(parser)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value ...')
    args = parser.parse_args()
    args.budgets = {key: getattr(args, option[2:].replace('-', '_')) for key, option in OPTIONS.items()}
    args.budgets = {key: budget for key, budget in args.budgets.items() if budget is not None}
    if not args.budgets:
        parser.error(f'give a budget: {", ".join(OPTIONS.values())}')
    if not osp.isfile(args.checkpoint):
        parser.error(f'no such file: {args.checkpoint}')
    check_measuring(parser, args)
    return args


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('us3l_mm', log_level='ERROR')  # each width is loaded and counted
    rows = []
    widths = args.widths or list_widths(args.config, args.checkpoint, args.cfg_options)
    for width in sorted(set(widths), reverse=True):
        plain = plain_model(args.config, args.checkpoint, width, args.cfg_options)
        net, size = Inference(plain), image_size(args.input, plain)
        row = dict(width=width, **plain_costs(net, size, args.batch))
        if 'latency_ms' in args.budgets:
            row.update(net_latency(net, size, args.batch, args.device, args.warmup, args.repeats))
        if args.probe is not None:
            row['accuracy'] = args.probe.get(width)
        rows.append(dict(row, fits=within(row, args.budgets)))
    chosen = widest_within(rows, args.budgets)
    setting = (
        f'{plain.part}, {args.batch} x 3 x {size[0]} x {size[1]}, {args.device}, {torch.get_num_threads()} thread(s)'
    )
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
        raise SystemExit(f'no width is within the budget; the least there is: {least}. Add narrower --widths?')
    print(
        f'chosen: width {chosen["width"]:g}. Next: python tools/export_width.py {args.config} {args.checkpoint} '
        f'--width {chosen["width"]:g} --format onnx'
    )


if __name__ == '__main__':
    main()
