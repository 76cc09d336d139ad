"""Search for the width of each part of a pretrained backbone within a budget, without training.

python projects/width_search/search_widths.py configs/us3l/r18_4xb128-400e_cifar100.py CHECKPOINT --max-macs 200M

The search starts at the full network. Each step narrows the part with the least harm for the saved cost, until the
budget is met. Harm is the distance of the features to those of the full network or, with --labels, the error of a
linear classifier.
"""

import argparse
import functools
import itertools
import os.path as osp
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, Runner, set_random_seed
from torch import Tensor, nn

from us3l_mm.deploy.budget import parse_amount
from us3l_mm.deploy.costs import width_complexity
from us3l_mm.slim import parse_width, width_label
from us3l_mm.utils.arguments import CfgOptions, checked, count_from, number_in
from us3l_mm.utils.files import write_files
from us3l_mm.utils.match_checkpoint import match_checkpoint
from us3l_mm.utils.tables import image_text, markdown_table
from us3l_mm.visualization import Curve, Panel, plot_panels
from us3l_mm.visualization.cost_report import report_files

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from width_search import cka_distance, greedy_search, pooled_features, ridge_error, separable_parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Search for the width of each part of a pretrained backbone',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        'config', help='config of the pretraining, such as configs/us3l/r18_4xb128.py; its training images are used'
    )
    parser.add_argument('checkpoint', help='checkpoint of the pretraining, calibrated or not, such as epoch_100.pth')
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        '--max-macs', type=checked(parse_amount), help='budget of multiply-accumulate operations, such as 200M'
    )
    budget.add_argument('--max-params', type=checked(parse_amount), help='budget of parameters, such as 5M')
    parser.add_argument('--parts', nargs='+', help='parts, joined by + if they share a width; found if not given')
    parser.add_argument(
        '--labels',
        metavar='CONFIG',
        help='config of a linear probe, such as r18_1xb512-100e_cifar100.py, to measure the harm on its labels',
    )
    parser.add_argument(
        '--input',
        type=count_from(1),
        help='side of the image for which MACs are counted; that of the images if not given',
    )
    parser.add_argument('--step', type=number_in('(0, 1)'), default=0.125, help='change of a width in a step')
    parser.add_argument('--lowest', type=number_in('(0, 1)'), default=0.25, help='lowest width')
    parser.add_argument('--num-batches', type=count_from(1), default=4, help='batches of images to measure the harm on')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument('--out', help='files to write, without suffix; <checkpoint>_search if not given')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    return parser.parse_args()


def read_images(cfg: Config, preprocessor: nn.Module, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Read preprocessed images of some training batches, and their labels if they have any."""
    batches, labels = [], []
    for batch in itertools.islice(Runner.build_dataloader(cfg.train_dataloader, seed=0), count):
        data = preprocessor(batch, False)
        inputs = data['inputs']
        batches.append(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)
        labels += [s.gt_label for s in data.get('data_samples') or [] if s is not None and 'gt_label' in s]
    return batches, labels


def text_table(rows: list[dict], harm: str) -> str:
    lines = [
        [
            row['step'],
            image_text(row['size']),
            f'{row["macs"] / 1e6:.2f}',
            f'{row["params"] / 1e6:.3f}',
            f'{row["harm"]:.4f}',
            row['width'],
        ]
        for row in rows
    ]
    return markdown_table(['step', 'image', 'MACs (M)', 'params (M)', harm, 'widths'], lines)


def picture(rows: list[dict], uniform: list[dict], key: str, budget: float, harm: str) -> 'Figure':
    curves = [
        Curve([row[key] / 1e6 for row in points], [row['harm'] for row in points], label, options={'fmt': style})
        for points, style, label in (
            (rows, 'o-', 'parts slimmed one by one'),
            (uniform, 's--', 'one width for all parts'),
        )
    ]
    return plot_panels([Panel(curves, f'{key} (M)', harm, budget=budget / 1e6)], width=6)


def load_images(args: argparse.Namespace) -> tuple[nn.Module, list[Tensor], Tensor | None]:
    """Load the pretrained backbone, batches of images and, with --labels, their labels."""
    from us3l_mm.config import read_config  # here: --help need not wait for it

    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    logger = MMLogger.get_instance('us3l_mm', log_level='ERROR')  # every network is counted
    set_random_seed(0)
    model = MODELS.build(cfg.model).to(args.device).eval()
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu', logger=logger)
    match = match_checkpoint(checkpoint, model.backbone, args.checkpoint, logger=logger)
    model.backbone.load_state_dict(match.state, strict=False)  # which refuses what does not fit by itself
    preprocessor = model.data_preprocessor
    if args.labels:
        cfg = read_config(args.labels)
        preprocessor = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **cfg.model.data_preprocessor})
        preprocessor.to(args.device)
    batches, labels = read_images(cfg, preprocessor, args.num_batches)
    if args.labels and not labels:
        raise SystemExit(f'{args.labels} has no labelled training images; give the config of a linear probe')
    return model.backbone, batches, torch.cat(labels).to(args.device) if args.labels else None


def main() -> None:
    args = parse_args()
    backbone, batches, labels = load_images(args)
    groups = [tuple(group.split('+')) for group in args.parts or ()] or separable_parts(backbone)
    print(f'parts: {", ".join("+".join(group) for group in groups)}; {sum(map(len, batches))} images', flush=True)
    key, budget = ('macs', args.max_macs) if args.max_macs else ('params', args.max_params)
    what = 'distance of the features' if labels is None else 'error of a linear classifier'
    size = (args.input, args.input) if args.input else tuple(batches[0].shape[-2:])
    reference = pooled_features(backbone, 1.0, batches)

    def harm(widths: float | dict[str, float]) -> float:
        features = pooled_features(backbone, widths, batches)
        return cka_distance(features, reference) if labels is None else ridge_error(features, labels)

    @functools.cache
    def count(width: str) -> dict:
        return dict(width_complexity(backbone, parse_width(width), size), width=width)

    def row_of(widths: float | dict[str, float], **more) -> dict:
        return dict(count(width_label(widths)), **more)

    rows = []
    search = greedy_search(groups, lambda widths: row_of(widths)[key], harm, budget, args.step, args.lowest)
    for step, found in enumerate(search):
        rows.append(row_of(found['widths'], step=step, harm=found['harm'], parts=found['widths']))
        done = f'step {step}: {key} {found["cost"] / 1e6:.2f}M of {budget / 1e6:.2f}M'
        print(f'{done}, {what} {found["harm"]:.4f}, {rows[-1]["width"]}', flush=True)
    grid = [round(1 - 0.05 * i, 2) for i in range(int((1 - args.lowest) / 0.05 + 1e-9) + 1)]
    uniform = [row_of(width, step='–', harm=harm(width)) for width in grid]
    table = text_table([*rows, *[row for row in uniform if row[key] <= budget][:1]], what)
    about = dict(config=args.config, checkpoint=args.checkpoint, budget={key: budget}, harm=what)
    files = report_files(
        Path(args.out or f'{osp.splitext(args.checkpoint)[0]}_search'),
        table,
        dict(about, steps=rows, uniform=uniform),
        picture(rows, uniform, key, budget, what),
    )
    write_files(files, force=True)
    print(
        f'{table}\n\nThe last row is the widest single width within the budget.\nsaved {", ".join(map(str, files))}. '
        f'Next:\npython tools/calibrate_bn.py {args.config} {args.checkpoint} --widths {rows[-1]["width"]}'
    )


if __name__ == '__main__':
    main()
