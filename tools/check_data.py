"""Look at the data sets of a config before a training, and say what is wrong with them.

python tools/check_data.py configs/us3l/r18_4xb128.py --data-root FOLDER --out check
python tools/check_data.py configs/det/retinanet_r18_fpn_1x_coco.py --data-root SET --sample 0

The exit status is 1 if there are errors: images that cannot be read, unknown classes, boxes that cannot be used.
"""

import argparse
import copy
import csv
import functools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.utils import track_iter_progress

from us3l_mm.utils.arguments import CfgOptions, add_own_data, count_from, own_data, run_main
from us3l_mm.utils.files import write_files
from us3l_mm.utils.tables import markdown_table

if TYPE_CHECKING:
    from us3l_mm.datasets.check import Finding, Split

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
MOST_CLASSES = 20  # that are listed on the terminal


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Look at the data sets of a config', formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        'config',
        help='config of a pretraining, a linear probe, a classifier or a detector, such as configs/us3l/r18_4xb128.py',
    )
    parser.add_argument(
        '--out', help='folder for check.json, check.csv and drawn samples; written if given, such as check'
    )
    parser.add_argument(
        '--sample', type=count_from(0), default=1000, help='images of each split to decode, such as 200; 0 for all'
    )
    add_own_data(parser)
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    return parser.parse_args()


def build(cfg: Config) -> tuple[dict[str, tuple[str, Any]], list['Finding']]:
    """Build the data set of each data loader, each once.

    Returns:
        tuple: Data loader and data set by the name of the split, and what kept others from being built.
    """
    from us3l_mm.config import find_datasets, find_dicts
    from us3l_mm.datasets.check import build_error

    loaders: dict[str, str] = {}
    for key in LOADERS:
        wanted = (cfg.get(key) or {}).get('dataset')
        same = next((name for name, other in loaders.items() if cfg[other].dataset == wanted), '')
        if wanted is not None:
            loaders[f'{same} and {key.split("_")[0]}'.removeprefix(' and ')] = loaders.pop(same, key)
    built, errors = {}, []
    for name, key in loaders.items():
        part = copy.deepcopy(cfg[key].dataset)
        for each in find_dicts(part):
            if 'filter_cfg' in each:
                each.filter_cfg = None  # images without boxes are counted
        try:
            built[name] = key, DATASETS.build(part)
        except Exception as error:  # of any data set
            parts = [each for _, each in find_datasets(cfg, [key])]
            files = [str(Path(each.get('data_root') or '', each.ann_file)) for each in parts if each.get('ann_file')]
            errors.append(build_error(name, error, files))
    return built, errors


def tables(splits: list['Split']) -> str:
    """Write a table of the splits and, unless they are many, one of their classes."""
    rows = []
    for split in splits:
        middle = len(split.sizes) // 2
        sizes = [f'{split.sizes[at][0]} x {split.sizes[at][1]}' if split.sizes else None for at in (0, middle, -1)]
        classes = len(split.classes) if split.count and split.classes else None
        without = None if split.boxes is None else len(split.without_boxes)
        rows.append([split.name, split.images, len(split.sizes), *sizes, classes, split.boxes, without])
    header = ['split', 'images', 'decoded', 'smallest', 'median', 'largest', 'classes', 'boxes', 'without boxes']
    text = markdown_table(header, rows)
    names = list(dict.fromkeys(name for split in splits for name in split.count))
    if 0 < len(names) <= MOST_CLASSES:
        text += '\n\n' + markdown_table(
            ['class', *(split.name for split in splits)],
            [[name, *(split.count.get(name) for split in splits)] for name in names],
        )
    return text


def write_csv(path: Path, findings: list['Finding']) -> None:
    """Write a line for each file or class of each finding."""
    with open(path, 'w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        writer = csv.writer(file)
        writer.writerow(['level', 'split', 'finding', 'name', 'detail', 'fix'])
        for finding in findings:
            for name, detail in finding.names:
                writer.writerow([finding.level, finding.split, finding.what, name, detail, finding.fix])


def report(args: argparse.Namespace, splits: list['Split'], findings: list['Finding']) -> dict:
    """Collect everything for check.json."""
    shown = []
    for split in splits:
        entry = asdict(split)
        entry['decoded'] = len(entry.pop('sizes'))
        middle = entry['decoded'] // 2
        for key, at in (('smallest', 0), ('median', middle), ('largest', -1)):
            entry[key] = list(split.sizes[at]) if split.sizes else None
        del entry['paths'], entry['sampled']
        shown.append(entry)
    return dict(config=args.config, sample=args.sample, splits=shown, findings=[asdict(each) for each in findings])


def pages(cfg: Config, built: dict[str, tuple[str, Any]]) -> dict:
    """Draw a page of samples of each split, and tell why one is missing."""
    from us3l_mm.datasets import BadImageError
    from us3l_mm.visualization.samples import draw_samples

    found = {}
    for name, (key, dataset) in built.items():
        try:
            figure = draw_samples(cfg, key, dataset)
        except BadImageError as error:
            print(f'no samples of {name} are drawn before this is put right: {error}')
            continue
        if figure is not None:
            found[f'samples_{key.split("_")[0]}.png'] = functools.partial(figure.savefig, format='png')
    return found


def main() -> None:
    args = parse_args()
    from us3l_mm.config import OwnData, read_config, require_data  # here: --help need not wait for them
    from us3l_mm.datasets.check import annotation_findings, check_data

    try:
        cfg = read_config(args.config, args.cfg_options, OwnData(**own_data(args)))
        require_data(cfg, LOADERS)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from error
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    built, findings = build(cfg)
    progress = functools.partial(track_iter_progress, file=sys.stderr)
    datasets = {name: dataset for name, (_, dataset) in built.items()}
    splits, found = check_data(datasets, args.sample, most_entries=None, track=progress)
    for name, dataset in datasets.items():
        findings += annotation_findings(name, dataset)
    findings = sorted([*findings, *found], key=lambda finding: finding.level)
    print(f'\n{tables(splits)}\n')
    for name in datasets.keys() - {split.name for split in splits}:
        print(f'{name}: no files to look at, {type(datasets[name]).__name__} holds its images itself')
    for split in splits:
        if len(split.sampled) < split.images:
            print(
                f'{split.name}: a sample of {len(split.sampled)} of {split.images} images was decoded; --sample 0: all'
            )
    for finding in findings:
        print(f'{finding.level}: {finding.text()}')
    if args.out is not None:
        text = json.dumps(report(args, splits, findings), indent=1)
        files = {
            'check.json': lambda part: part.write_text(text, encoding='utf-8', errors='backslashreplace'),
            'check.csv': lambda part: write_csv(part, findings),
            **pages(cfg, built),
        }
        write_files({Path(args.out, name): write for name, write in files.items()}, force=True)
        print(f'saved {", ".join(str(Path(args.out, name)) for name in files)}')
    errors = sum(finding.level == 'error' for finding in findings)
    print(f'{errors} errors, {len(findings) - errors} warnings')
    if errors:
        raise SystemExit(1)


if __name__ == '__main__':
    run_main(main)
