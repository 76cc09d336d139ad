"""Probe a calibrated checkpoint on other data sets, at several widths, in one command; one table like the paper's.

us3l transfer CHECKPOINT --datasets cifar10 flowers102 pets --widths 1.0 0.5
us3l transfer CHECKPOINT --datasets data/mine --image-size 64 --protocol paper

Each set lies in a folder of its name under --data-root; nothing is downloaded. A set that is missing says where to get
it, and is left out. After an interruption the same command goes on where it stopped.
"""

import argparse
import json
from pathlib import Path

from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, count_from, run_main
from us3l_mm.utils.files import write_text

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'checkpoint',
        help='checkpoint of the pretraining, calibrated by `us3l calibrate`, such as epoch_100_calibrated.pth',
    )
    parser.add_argument(
        '--datasets',
        nargs='+',
        default=['cifar10', 'cifar100', 'flowers102', 'pets', 'dtd'],
        metavar='SET',
        help='cifar10, cifar100, flowers102, pets, dtd, food101, caltech101, aircraft, or a folder with train/CLASS '
        'and val/CLASS, such as data/mine (default: the first five)',
    )
    parser.add_argument(
        '--widths', type=parse_single_width, nargs='+', help='widths, such as 1.0 0.5; 1.0 0.75 0.5 0.25 if not given'
    )
    parser.add_argument('--data-root', default='data', help='folder with the sets (default: %(default)s)')
    parser.add_argument(
        '--protocol',
        choices=['fast', 'paper'],
        default='fast',
        help='as for `us3l probe` (default: %(default)s)',
    )
    parser.add_argument(
        '--config',
        help='config with the backbone, such as that of the pretraining; that in the checkpoint if not given',
    )
    parser.add_argument(
        '--image-size', type=count_from(8), metavar='PIXELS', help='side of images; that of the training if not given'
    )
    parser.add_argument(
        '--work-dir', type=Path, help='folder for everything; work_dirs/transfer/<name of the checkpoint> if not given'
    )
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from us3l_mm.config import (
        backbone_of_checkpoint,
        describe_backbone,
        read_config,
        trained_side,
    )  # here: --help need not wait for them
    from us3l_mm.evaluation.transfer import SETS, Source, transfer_config, transfer_rows, transfer_table

    unknown = [name for name in args.datasets if name not in SETS and not Path(name).is_dir()]
    if unknown:
        raise SystemExit(f'--datasets: {unknown[0]} is neither a folder nor one of {", ".join(SETS)}')
    if len({Path(name).name for name in args.datasets}) < len(args.datasets):
        raise SystemExit(f'--datasets: two sets have the same name, got {" ".join(args.datasets)}; name each once')
    if args.config is None:
        backbone, pixels = backbone_of_checkpoint(args.checkpoint)
    else:
        backbone, pixels = describe_backbone(read_config(args.config)).values()
    size = args.image_size or trained_side(args.checkpoint)
    source = Source(args.checkpoint, backbone, pixels, args.widths, size)
    out = args.work_dir or Path('work_dirs/transfer') / Path(args.checkpoint).stem

    def configured(name: str, folder: Path):
        cfg = transfer_config(source, name, args.data_root, folder, ROOT / 'configs/linear', args.cfg_options)
        cfg.resume = True
        return cfg

    rows = transfer_rows(source, args.datasets, args.protocol, out, configured)
    result = dict(checkpoint=args.checkpoint, protocol=args.protocol, rows=rows)
    write_text(out / 'transfer.json', json.dumps(result, indent=2) + '\n')
    table = transfer_table(rows)
    write_text(out / 'transfer.md', table + '\n')
    print(f'\n{table}\n\nWrote {out}/transfer.json and transfer.md')


if __name__ == '__main__':
    run_main(main)
