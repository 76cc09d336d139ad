"""Say what to run next, and how to get what a report lacks."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from us3l_mm.evaluation import PROTOCOLS, RunFolder, judge

_PROBE = 'PROBE_CONFIG'  # a config of configs/linear, which depends on the data


def next_commands(runs: Sequence[RunFolder]) -> str:
    """Commands from calibration to export that were not run yet, for each training, with a line of what each does."""
    steps: list[str] = []
    probes = (run.results[name] for run in runs for name in PROTOCOLS if name in run.results)
    probed = {Path(probe.get('checkpoint') or '').parts[-2:] for probe in probes}
    tabled = [run.path for run in runs if 'table' in run.results]
    for run in runs:
        if any(run.path.is_relative_to(path) for path in tabled):
            continue  # run_table.py and det_widths.py go on by themselves
        word, folder = judge(run).word if run.trains else '', _quoted(run.path)
        config = _quoted(run.path / run.config_file) if run.config_file else 'CONFIG'
        if word == 'unfinished':
            steps += [f'# {run.name}: go on where it stopped', _tool('train', config, f'--work-dir {folder} --resume')]
        elif word in ('collapsed', 'diverged'):
            rate = run.config.get('optim_wrapper', {}).get('optimizer', {}).get('lr')
            lower = f'--cfg-options optim_wrapper.optimizer.lr={f"{rate / 10:g}" if rate else "RATE"}'
            steps += [f'# {run.name}: try again with a lower rate']
            steps += [_tool('train', config, f'--work-dir {folder}_lower', lower)]
        elif word and run.kind == 'pretraining' and run.checkpoints:
            steps += _after_pretraining(run, config, probed)
    return '\n'.join(steps)


def _after_pretraining(run: RunFolder, config: str, probed: set[tuple[str, ...]]) -> list[str]:
    checkpoint = run.checkpoints[-1]
    calibrated = checkpoint.with_name(f'{checkpoint.stem}_calibrated.pth')
    steps = []
    if not calibrated.exists():
        steps += [f'# {run.name}: measure the batch-norm statistics of the widths you want']
        steps += [_tool('calibrate', config, _quoted(checkpoint), '--widths 1.0 0.75 0.5 0.25')]
    if calibrated.parts[-2:] not in probed:
        out = _quoted(run.path / 'probe')
        steps += [f'# {run.name}: how good is each width? {_PROBE} is one of configs/linear for your data']
        steps += [_tool('probe', _PROBE, _quoted(calibrated), '--protocol fast', f'--work-dir {out}')]
    steps += [f'# {run.name}: ship a width']
    steps += [_tool('export', config, _quoted(calibrated), '--width 0.5 --format dense')]
    return steps


def _tool(name: str, *arguments: str) -> str:
    """Write a command with a line for each of its arguments but the first."""
    return ' \\\n    '.join([f'us3l {name} {arguments[0]}', *arguments[1:]])


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def missing_parts(runs: Sequence[RunFolder]) -> dict[str, str]:
    """Parts that none of the runs has, with how to get them."""
    has = {name for run in runs for name in run.results}
    found = {}
    if any(run.kind == 'pretraining' for run in runs if run.trains):
        if not any(run.monitor for run in runs):
            found['k-NN, rank and spread of each width during training'] = (
                "train with custom_hooks = [dict(type='us3l_mm.MonitorHook')], see docs/evaluation.md"
            )
        if 'cost' not in has:
            found['cost of the training'] = (
                "train with default_hooks = dict(cost=dict(type='us3l_mm.CostHook')), as _base_/default_runtime.py has"
            )
        if 'transfer' not in has:
            found['transfer to other data'] = 'us3l transfer CALIBRATED --datasets FOLDER --widths 1.0 0.5'
        if not any(run.insights for run in runs):
            found['insight'] = 'us3l analyze-features, analyze-weights and temporal-consistency show it'
    if not has & {*PROTOCOLS, 'table'}:
        found['accuracy of each width'] = f'us3l probe {_PROBE} CALIBRATED --protocol fast --work-dir FOLDER'
    detectors = [run for run in runs if run.kind == 'detector']
    if detectors and not any(run.drawn for run in detectors):
        found['drawn boxes'] = (
            'train or test with --cfg-options default_hooks.visualization.draw=True '
            'default_hooks.visualization.interval=1'
        )
    return found
