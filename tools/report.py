"""Write one page on what ran, how it went and what was measured, finished or not.

us3l report work_dirs/demo
us3l report work_dirs/us3l work_dirs/byol --published methods.r18-us3l --out compare.html

The page needs no other file and no network. See docs/report.md.
"""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'work_dirs',
        type=Path,
        nargs='+',
        help='work dirs, or folders that have some below them, such as work_dirs/demo',
    )
    parser.add_argument(
        '--out', type=Path, help='page to write, such as compare.html; report.html in the first folder if not given'
    )
    parser.add_argument('--title', help='heading, such as "Our first run"; the names of the runs if not given')
    parser.add_argument(
        '--published',
        nargs='+',
        default=[],
        metavar='TABLE.CASE',
        help='published rows of configs/tables to draw dashed, such as methods.r18-us3l',
    )
    return parser.parse_args()


def published_series(names: list[str]) -> list:
    """Read published accuracies (%), with the MACs of their networks on images of their data."""
    from mmengine.config import Config
    from mmengine.registry import MODELS

    from us3l_mm.config import input_size, read_config
    from us3l_mm.deploy.costs import width_complexity
    from us3l_mm.evaluation import Series

    found = []
    for name in names:
        table_name, _, case_name = name.partition('.')
        path = ROOT / 'configs' / 'tables' / f'{table_name}.py'
        table = Config.fromfile(path) if path.exists() else None
        case = table and table.cases.get(case_name)
        if not case or not case.get('published'):
            raise SystemExit(
                f'--published {name}: no such row; rows are TABLE.CASE of configs/tables, see docs/tables.md'
            )
        source = table.published_from
        values = dict(zip(table.published_widths, case.published.split()))
        data = source.data.lower().replace('-', '')  # as in the names of configs
        base = table.bases[case.base].get(data)
        points = []
        if base:
            cfg = read_config(ROOT / base)
            cfg.merge_from_dict(case.get('changes', {}))
            net = MODELS.build({**cfg.model.backbone, 'width': None, 'init_cfg': None})
        for width, value in values.items():
            if value not in ('.', '-'):
                macs = width_complexity(net, width, input_size(cfg))['macs'] if base else None
                points.append((width, macs, float(value), None))
        found.append(Series(f'{case.what}, published ({source.data}, {source.name})', data, points, True))
    return found


def main() -> None:
    args = parse_args()
    from us3l_mm.evaluation import find_runs  # here: --help need not wait for them
    from us3l_mm.utils.arguments import command_line
    from us3l_mm.visualization import write_report

    try:
        runs = find_runs(args.work_dirs)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    out = args.out or args.work_dirs[0] / 'report.html'
    title = args.title or ', '.join(folder.resolve().name for folder in args.work_dirs)
    command = command_line()
    figures = write_report(runs, out, title, published=published_series(args.published), command=command)
    print(f'Wrote {out}, and its figures to {figures}/')


if __name__ == '__main__':
    main()
