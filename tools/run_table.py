"""Run the cases of a table of the paper, and print the results beside the published ones.

us3l table ablation --gpus 4                                # the 17 cases on CIFAR-100
us3l table ablation --dataset digits --cases 2 4 8 10 13 17  # to try it on a laptop
us3l table ablation --dataset digits --print-only
us3l table small --dataset digitphotos --seeds 0 1 2       # every method, on digits in photographs

Each step is a command of this project, printed before it runs. After an interruption the same command goes on where it
stopped. See docs/tables.md.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from mmengine.config import Config, ConfigDict

from us3l_mm.slim import check_width
from us3l_mm.utils.arguments import CfgOptions, count_from, number_in
from us3l_mm.utils.commit import package_commit
from us3l_mm.utils.files import write_text
from us3l_mm.utils.jobs import StepFailed, run_step, run_unfinished
from us3l_mm.visualization import case_table_text, plot_cases, read_cases

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
TABLES = ROOT / 'configs' / 'tables'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', help='name of a file in configs/tables, such as ablation, or path of a table')
    parser.add_argument('--dataset', default='cifar100', help='data set (default: %(default)s); digits is small')
    parser.add_argument('--cases', nargs='+', help='names of cases; all if not given')
    parser.add_argument(
        '--widths',
        type=number_in('(0, 1]'),
        nargs='+',
        help="widths to evaluate; those of the probe's config if not given",
    )
    parser.add_argument(
        '--epochs', type=count_from(1), help='epochs of the pretraining, such as 100; schedules are scaled'
    )
    parser.add_argument(
        '--probe-epochs', type=count_from(1), help='epochs of the linear probe, such as 20; schedules are scaled'
    )
    parser.add_argument(
        '--seeds', type=count_from(0), nargs='+', help='run each case once for each seed, such as 0 1 2; shows the mean'
    )
    parser.add_argument(
        '--gpus', type=count_from(1), default=1, help='processes to pretrain with (default: %(default)s)'
    )
    parser.add_argument('--work-dir', help='folder for everything; work_dirs/tables/<table>_<dataset> if not given')
    parser.add_argument('--print-only', action='store_true', help='run nothing, print and plot the results so far')
    parser.add_argument(
        '--cfg-options', nargs='+', action=CfgOptions, help='override config entries of all pretrainings: key=value ...'
    )
    parser.add_argument(
        '--probe-options',
        nargs='+',
        action=CfgOptions,
        help='override config entries of all linear probes: key=value ...',
    )
    return parser.parse_args()


def pick(what: str, wanted: str, known: list[str]) -> str:
    """Return ``wanted`` if it is known, else stop with a list of what is."""
    if wanted in known:
        return wanted
    raise SystemExit(f'no {what} {wanted!r}; there are: {", ".join(known)}')


def load_table(name: str) -> Config:
    if name.endswith('.py'):
        return Config.fromfile(name)
    names = sorted(path.stem for path in TABLES.glob('[!_]*.py'))
    return Config.fromfile(TABLES / f'{pick("table", name, names)}.py')


def select(table: Config, dataset: str, names: list[str] | None) -> dict[str, ConfigDict]:
    """Choose the cases by name, or all that the data set has, in the order of the table."""
    pick('data set', dataset, sorted({key for base in table.bases.values() for key in base}))
    bases = {name: table.bases[pick('base', case.base, list(table.bases))] for name, case in table.cases.items()}
    cases = {name: case for name, case in table.cases.items() if dataset in bases[name]}
    chosen = {pick(f'case on {dataset}', name, list(cases)) for name in names or cases}
    return {name: case for name, case in cases.items() if name in chosen}


def set_epochs(cfg: Config, epochs: int) -> None:
    """Change the epochs of a training, and scale the schedules of its learning rate."""
    factor = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    for scheduler in cfg.param_scheduler:
        for key in ('T_max', 'end'):
            if key in scheduler:
                scheduler[key] = max(1, round(factor * scheduler[key]))
        if 'begin' in scheduler:
            scheduler.begin = round(factor * scheduler.begin)
        if 'milestones' in scheduler:
            scheduler.milestones = [round(factor * epoch) for epoch in scheduler.milestones]
    if 'val_interval' in cfg.train_cfg:
        cfg.train_cfg.val_interval = min(epochs, cfg.train_cfg.val_interval)


def case_configs(
    table: Config, case: ConfigDict, args: argparse.Namespace, width: float | None = None, seed: int | None = None
) -> dict[str, Config]:
    """Make the configs of a case, ``pretrain`` and ``probe``; with a width, those of a dense net of that width."""
    from us3l_mm.config import read_config, set_width  # here: --help need not wait for it

    cfg = read_config(ROOT / table.bases[case.base][args.dataset])
    cfg.merge_from_dict(case.get('changes', {}))
    epochs = args.epochs or table.epochs.get(args.dataset, cfg.train_cfg.max_epochs)
    set_epochs(cfg, case.get('longer', 1) * epochs)
    checkpoint = cfg.default_hooks.checkpoint
    checkpoint.interval = min(checkpoint.interval, max(1, cfg.train_cfg.max_epochs // 8))  # lose an eighth at most
    if 'auto_scale_lr' in cfg:
        cfg.auto_scale_lr.enable = True  # the recipe's rate is for its number of GPUs
    cfg.run_table = dict(gpus=args.gpus)  # a setting: another number of GPUs starts anew
    if seed is not None:
        set_seed(cfg, seed)
    cfg.merge_from_dict(args.cfg_options or {})

    probe = read_config(ROOT / table.probes[args.dataset])
    set_epochs(probe, args.probe_epochs or table.probe_epochs.get(args.dataset, probe.train_cfg.max_epochs))
    if args.widths:
        probe.model.widths = [check_width(width) for width in args.widths]
    probe.merge_from_dict(args.probe_options or {})
    if width is not None:
        set_width(cfg, width)
        probe.model.widths = [width]
    probe.model.backbone = cfg.model.backbone
    probe.run_table = dict(protocol=table.get('protocols', {}).get(args.dataset, 'paper'))
    return dict(pretrain=cfg, probe=probe)


def set_seed(cfg: Config, seed: int) -> None:
    """Change the seed of a pretraining, and those of its widths and views, which have their own."""
    from us3l_mm.config import find_class  # here: --help need not wait for them
    from us3l_mm.models import BatchedViewsPreprocessor

    cfg.merge_from_dict(dict(randomness=dict(seed=seed)))
    if 'sampler' in cfg.model:
        cfg.model.sampler.seed = seed
    preprocessor = cfg.model.get('data_preprocessor') or {}
    kind = find_class(preprocessor.get('type'), cfg.get('default_scope'))
    if kind is not None and issubclass(kind, BatchedViewsPreprocessor):
        preprocessor.seed = seed


def case_runs(table: Config, name: str, out: Path, args: argparse.Namespace) -> dict[Path, dict[str, Config]]:
    """Make the configs of each run of a case, by folder: one for each seed, and with ``per_width`` for each width."""
    case, runs = table.cases[name], {}
    for seed in args.seeds or [None]:
        folder = seed_folder(out / name, seed)
        configs = case_configs(table, case, args, seed=seed)
        if not case.get('per_width'):
            runs[folder] = configs
            continue
        for width in configs['probe'].model.widths:
            runs[folder / f'w{width:g}'] = case_configs(table, case, args, width, seed)
    if 'teacher' in case:  # the full-width network of another case, of the same seed
        epochs = case_configs(table, table.cases[case.teacher], args)['pretrain'].train_cfg.max_epochs
        for folder, configs in runs.items():
            other = out / case.teacher / folder.parent.relative_to(out / name)
            configs['pretrain'].model.teacher.checkpoint = str(other / 'w1' / 'pretrain' / f'epoch_{epochs}.pth')
    return runs


def seed_folder(folder: Path, seed: int | None) -> Path:
    """Folder of the runs of a case with a seed; that of the case itself if no seeds are asked for."""
    return folder if seed is None else folder / f'seed{seed}'


def run_one(folder: Path, configs: dict[str, Config], gpus: int, lock: int) -> None:
    """Pretrain, calibrate and probe, except for steps that are done, and write ``result.json``.

    Raises:
        StepFailed: If a command fails.
    """
    cfg, probe = configs['pretrain'], configs['probe']
    epochs, pretrain = cfg.train_cfg.max_epochs, folder / 'pretrain'
    checkpoint = pretrain / f'epoch_{epochs}.pth'
    if not checkpoint.exists():
        run_step(TOOLS / 'train.py', [folder / 'pretrain.py', '--work-dir', pretrain, '--resume'], lock, gpus)
    if not checkpoint.exists():
        raise StepFailed(f'train left no {checkpoint.name} in {pretrain}')
    if cfg.model.backbone.get('width') is None:  # a dense net has its statistics from training
        uncalibrated, checkpoint = checkpoint, folder / 'calibrated.pth'
        if not checkpoint.exists():
            arguments = [folder / 'pretrain.py', uncalibrated, '--out', checkpoint, '--widths', *probe.model.widths]
            run_step(TOOLS / 'calibrate_bn.py', arguments, lock)
    protocol = probe.run_table.protocol
    probing = [folder / 'probe.py', checkpoint, '--work-dir', folder / 'probe', '--protocol', protocol]
    run_step(TOOLS / 'linear_probe.py', [*probing, *(['--resume'] if protocol == 'paper' else [])], lock)
    stem = 'linear_probe' if protocol == 'paper' else f'{protocol}_probe'
    result = dict(
        epochs=epochs,
        protocol=protocol,
        probe_epochs=probe.train_cfg.max_epochs if protocol == 'paper' else None,
        date=time.strftime('%Y-%m-%d'),
        commit=package_commit(),
        widths=json.loads((folder / 'probe' / f'{stem}.json').read_text())['widths'],
    )
    write_text(folder / 'result.json', json.dumps(result, indent=2) + '\n')


def run_cases(table: Config, cases: dict[str, ConfigDict], out: Path, args: argparse.Namespace) -> None:
    """Run all runs of the cases that are not finished."""
    runs = {}
    for name in cases:
        runs.update(case_runs(table, name, out, args))
    run_unfinished(runs, out, lambda folder, configs, lock: run_one(folder, configs, args.gpus, lock))


def main() -> None:
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended; the same command goes on from here'))
    table = load_table(args.table)
    cases = select(table, args.dataset, args.cases)
    out = Path(args.work_dir or f'work_dirs/tables/{args.table}_{args.dataset}')
    if not args.print_only:
        try:
            run_cases(table, cases, out, args)
        except KeyboardInterrupt:
            raise SystemExit('interrupted; the same command goes on from here') from None
    begun = {name for name in table.cases if (out / name).exists()}  # by other calls, too
    rows = read_cases(table, {name: case for name, case in table.cases.items() if name in begun | cases.keys()}, out)
    text = case_table_text(table, rows, args.dataset)
    print(f'\n{text}')
    if out.exists():
        write_text(out / 'table.md', text + '\n')
        write_text(out / 'table.json', json.dumps(rows, indent=2, ensure_ascii=False) + '\n')
        plot_cases(table, rows, args.dataset, out / 'table.png')
        print(f'\nWrote {out}/table.md, table.json and table.png')
    failed = [name for name in cases if rows[name]['failed']]
    if failed:
        raise SystemExit(f'failed: {", ".join(failed)}; the same command tries again')


if __name__ == '__main__':
    main()
