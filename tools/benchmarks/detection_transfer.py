"""Compare detectors that are fine-tuned from a pretrained backbone and from random weights, with several seeds.

python tools/dataset_converters/make_digit_scenes.py data/digit_scenes
python tools/benchmarks/detection_transfer.py CALIBRATED_CHECKPOINT --width 0.5 --seeds 0 1 2

Finished runs are skipped, and an interrupted one goes on.
"""

import argparse
import statistics
from pathlib import Path

from us3l_mm.evaluation import last_logged
from us3l_mm.utils.arguments import count_from, number_in
from us3l_mm.utils.jobs import alone_in, run_step

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='checkpoint of the pretraining, calibrated for the width')
    parser.add_argument('--config', default=CONFIG, help='detector (default: %(default)s)')
    parser.add_argument('--width', type=number_in('(0, 1]'), default=0.5, help='width (default: %(default)s)')
    parser.add_argument('--seeds', type=count_from(0), nargs='+', default=[0, 1, 2], help='seeds (default: 0 1 2)')
    parser.add_argument(
        '--work-dir', default='work_dirs/detection_transfer', help='folder for all runs (default: %(default)s)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='override config entries of all trainings: key=value ...'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    starts = {
        'pretrained': f'model.backbone.init_cfg.checkpoint={args.checkpoint}',
        'random weights': 'model.backbone.init_cfg=None',
    }
    found: dict[str, list[float]] = {start: [] for start in starts}
    for seed in args.seeds:
        for start, option in starts.items():
            folder = Path(args.work_dir) / f'w{args.width:g}_{start.split()[0]}_seed{seed}'
            with alone_in(folder) as lock:
                arguments = [args.config, '--width', args.width, '--work-dir', folder, '--resume', '--cfg-options']
                run_step(
                    ROOT / 'tools/train.py', [*arguments, option, f'randomness.seed={seed}', *args.cfg_options], lock
                )
            found[start].append(100 * last_logged(folder, 'coco/bbox_mAP'))
    print(f'\nBox AP (%) at width {args.width:g}, {args.config}, seeds {args.seeds}')
    print('| backbone from | each seed | mean | standard deviation |\n|---|---|---|---|')
    for start, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else float('nan')
        print(f'| {start} | {" ".join(f"{v:.1f}" for v in values)} | {statistics.mean(values):.1f} | {spread:.1f} |')


if __name__ == '__main__':
    main()
