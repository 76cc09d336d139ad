"""Show where in its channels a network has its weights, for one checkpoint or several side by side.

python tools/analysis_tools/analyze_weights.py work_dirs/a/epoch_16.pth work_dirs/b/epoch_16.pth --names with without

Channels of each layer of the backbone fall into the groups of group regularisation. Writes insight/weights.png and
weights.json.
"""

import argparse
import os.path as osp
from pathlib import Path

from us3l_mm.utils.arguments import command_line, count_from, run_main


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Show the norm of the weights by group of channels')
    parser.add_argument(
        'checkpoints', nargs='+', help='checkpoints, calibrated or not, such as work_dirs/x/epoch_16.pth'
    )
    parser.add_argument(
        '--names', nargs='+', help='name of each in the picture, such as with without; or else its path'
    )
    parser.add_argument('--groups', type=count_from(2), default=8, help='groups of channels, such as 8')
    parser.add_argument('--prefix', help='prefix of the keys of the backbone, such as model_ema.backbone.')
    parser.add_argument(
        '--work-dir', help="folder of insight/, such as work_dirs/x; the first checkpoint's if not given"
    )
    args = parser.parse_args()
    args.names = args.names or args.checkpoints
    if len(args.names) != len(args.checkpoints) or len(set(args.names)) < len(args.names):
        parser.error(
            f'--names needs a different name for each of {len(args.checkpoints)} checkpoints, got {args.names}'
        )
    missing = [path for path in args.checkpoints if not osp.isfile(path)]
    if missing:
        parser.error(f'no such file: {", ".join(missing)}')
    return args


def main() -> None:
    args = parse_args()
    from mmengine.runner import CheckpointLoader  # here: --help need not wait for them

    from us3l_mm.evaluation.group_norms import backbone_state, norms_by_group
    from us3l_mm.utils.match_checkpoint import weights_of
    from us3l_mm.visualization.insight import write_insight
    from us3l_mm.visualization.weight_insight import weight_insight

    networks = {}
    for name, path in zip(args.names, args.checkpoints):
        state = weights_of(CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent'))
        try:
            networks[name] = norms_by_group(backbone_state(state, args.prefix), args.groups)
        except ValueError as error:
            raise SystemExit(f'{path}: {error}') from error
    insight = weight_insight(networks)
    folder = Path(args.work_dir or osp.dirname(args.checkpoints[0])) / 'insight'
    picture = write_insight(insight, folder, command_line())
    print(f'## {insight.title}\n\n{insight.table}\n\n{insight.says}\nsaved {picture} and {picture.stem}.json')


if __name__ == '__main__':
    run_main(main)
