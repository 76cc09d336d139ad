"""Export one width of a trained model as a dense network.

python tools/export_width.py CONFIG CHECKPOINT --width 0.5 --format dense         # OUT.pth and OUT.py, any width
python tools/export_width.py CONFIG CHECKPOINT --width 0.5 --format stock         # the same, works without us3l_mm
python tools/export_width.py CONFIG CHECKPOINT --width 0.5 --format onnx          # OUT.onnx
python tools/export_width.py CONFIG CHECKPOINT --width 0.5 --format torch-export  # OUT.pt2
"""

import argparse
import os.path as osp
import warnings
from pathlib import Path

import torch

from us3l_mm.slim import parse_width, width_key, width_label
from us3l_mm.utils.arguments import CfgOptions, count_from, run_main
from us3l_mm.utils.files import write_files

PROGRAMS = {'onnx': '.onnx', 'torch-export': '.pt2'}
SUFFIXES = ('.pth', '.py', '.onnx', '.pt2')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export one width of a trained model as a dense network')
    parser.add_argument(
        'config',
        help='config of a pretraining, a linear probe, a classifier or a detector, such as that in its work dir',
    )
    parser.add_argument(
        'checkpoint',
        help='its checkpoint; calibrated by `us3l calibrate` if the model is slimmable, such as epoch_60.pth',
    )
    parser.add_argument(
        '--width',
        type=parse_width,
        help='0.5, or layer1=0.5,layer4=0.8 for parts; the width of the config if it fixes one',
    )
    parser.add_argument('--format', choices=['dense', 'stock', *PROGRAMS], required=True, help='kind of export')
    parser.add_argument('--out', help='files to write, without suffix; CHECKPOINT_w<width>_<format> if not given')
    parser.add_argument('--force', action='store_true', help='replace existing files')
    parser.add_argument(
        '--framework', choices=['mmpretrain', 'mmdet'], help='library of the backbone of a stock export'
    )
    parser.add_argument(
        '--input',
        type=count_from(1),
        nargs='+',
        metavar='PIXELS',
        help='side, or height and width, of the images (ONNX, torch), such as 224; those of the training if not given',
    )
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    args = parser.parse_args()
    if args.framework and args.format != 'stock':
        parser.error('--framework goes with --format stock')
    if args.input and args.format not in PROGRAMS:
        parser.error(f'--input goes with --format {" or ".join(PROGRAMS)}')
    if not osp.isfile(args.checkpoint):
        parser.error(f'no such file: {args.checkpoint}')
    return args


def main() -> None:
    args = parse_args()
    from us3l_mm.deploy.export import check_onnx_packages, checkpoint_files, describe, export_onnx, export_torch
    from us3l_mm.deploy.plain_model import image_size, plain_model  # here: --help need not wait for them
    from us3l_mm.deploy.stock_backbone import stock_config, stock_model

    warnings.filterwarnings('ignore')  # hundreds of torch and mmengine while a model is traced
    if args.format == 'onnx':
        check_onnx_packages()
    if args.format == 'stock':  # before the checkpoint is read: a width that does not fit need not be calibrated
        cfg = stock_config(plain_model(args.config, None, args.width, args.cfg_options), args.framework)
    plain = plain_model(args.config, args.checkpoint, args.width, args.cfg_options)
    out = args.out or f'{osp.splitext(args.checkpoint)[0]}_w{width_key(plain.width).replace("/", "-")}_{args.format}'
    out = Path(osp.splitext(out)[0] if out.endswith(SUFFIXES) else out)
    about = dict(describe(plain, args.config, args.checkpoint), format=args.format)
    if args.format in PROGRAMS:
        export = {'onnx': export_onnx, 'torch-export': export_torch}[args.format]
        size = image_size(args.input, plain)
        program, difference = export(plain, size, dict(about, input=[3, *size]))
        files = {out.with_name(out.name + PROGRAMS[args.format]): lambda path: path.write_bytes(program)}
        done = f'images N x 3 x {size[0]} x {size[1]}, N free; differs from torch by {difference:.1e} at most'
    else:
        cfg, model = (plain.cfg, plain.model) if args.format == 'dense' else (cfg, stock_model(plain, cfg))
        files = checkpoint_files(out, cfg, model, plain, about)
        done = f'backbone {cfg.model.backbone.type}'
    write_files(files, args.force)
    params = sum(parameter.numel() for parameter in plain.model.parameters())
    print(f'{plain.part} at width {width_label(plain.width)}, {params:,} parameters; {done}')
    for path in files:
        print(f'saved {path} ({path.stat().st_size / 2**20:.1f} MiB)')


if __name__ == '__main__':
    with torch.no_grad():
        run_main(main)
