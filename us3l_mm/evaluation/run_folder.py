"""Read the folders of runs: logs, configs and results, finished or not."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmpretrain.models import BaseClassifier, BaseSelfSupervisor

from us3l_mm.config import find_class, is_detector
from us3l_mm.engine import checkpoint_files
from us3l_mm.models import LinearProbe

from .log_file import LogFile, read_log_file

SESSION = re.compile(r'\d{8}_\d{6}')  # folder of one start of a training or test, by its time
RESULTS = ('linear_probe', 'fast_probe', 'finetune', 'transfer', 'monitor', 'cost', 'table')


@dataclass
class RunFolder:
    """A folder with what a training, a test or an evaluation left.

    Attributes:
        path (Path): The folder.
        name (str): Its path below the folder that was asked for.
        config (Config): Config as it ran; empty if there is none.
        config_file (str): Its file, from the folder.
        log (LogFile): What the newest log of a training says, with the warnings of all.
        sessions (list[str]): Times at which it was started, from the first.
        training (list[dict]): Logged lines of the training, by step; after a resumption without those it left behind.
        monitor (list[dict]): Logged lines of the monitor, by epoch.
        metrics (dict[str, float]): Last value of each metric of validation or test.
        results (dict[str, Any]): Contents of result files, by the names in :data:`RESULTS`.
        insights (list[tuple[Path, dict]]): Pictures of ``insight/`` with what is said of each.
        drawn (list[Path]): Images with predictions, drawn by a visualisation hook.
        checkpoints (list[Path]): Those of the training, from the first.
        meta (dict): ``meta`` of the newest one.
        faults (list[str]): Files that could not be read, with the reason.
    """

    path: Path
    name: str
    config: Config = field(default_factory=Config)
    config_file: str = ''
    log: LogFile = field(default_factory=LogFile)
    sessions: list[str] = field(default_factory=list)
    training: list[dict] = field(default_factory=list)
    monitor: list[dict] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    insights: list[tuple[Path, dict]] = field(default_factory=list)
    drawn: list[Path] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def trains(self) -> bool:
        """Whether a training ran here, or began."""
        return bool(self.training or self.checkpoints or self.log.images is not None)

    @property
    def kind(self) -> str:
        """What the config builds: ``pretraining``, ``linear probe``, ``detector`` or ``classifier``."""
        if is_detector(self.config):
            return 'detector'
        model = find_class((self.config.get('model') or {}).get('type'), self.config.get('default_scope')) or object
        kinds = {'pretraining': BaseSelfSupervisor, 'linear probe': LinearProbe, 'classifier': BaseClassifier}
        return next((kind for kind, base in kinds.items() if issubclass(model, base)), 'other')


def find_runs(folders: Iterable[Path]) -> list[RunFolder]:
    """Read all runs in some folders and below them.

    Args:
        folders (Iterable[Path]): Work dirs, or folders that have some.

    Raises:
        FileNotFoundError: If a folder does not exist, or has no run in or below it.
    """
    runs: dict[Path, RunFolder] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f'no such folder: {folder}')
        found = [Path(path) for path in _below(folder)]
        if not found:
            raise FileNotFoundError(
                f'no run in or below {folder}: neither a log of a training or test (YYYYMMDD_HHMMSS/) nor '
                f'{", ".join(f"{name}.json" for name in RESULTS[:3])} ...; give the --work-dir of a training'
            )
        for path in found:
            name = folder.resolve().name if path == folder else str(path.relative_to(folder))
            runs.setdefault(path.resolve(), read_run(path, name))
    return list(runs.values())


def _below(folder: Path) -> Iterable[str]:
    for path, names, files in os.walk(folder):
        sessions = [name for name in names if SESSION.fullmatch(name)]
        insight = 'insight' in names
        names[:] = sorted(set(names) - set(sessions) - {'insight'})
        if sessions or insight or {f'{name}.json' for name in RESULTS} & set(files):
            yield path


def read_run(path: Path, name: str = '') -> RunFolder:
    """Read one folder; files that cannot be read are noted in ``faults``.

    Args:
        path (Path): Work dir.
        name (str): Name to call it by. Defaults to that of the folder.
    """
    run = RunFolder(path, name or path.name)
    for session in sorted(child for child in path.iterdir() if SESSION.fullmatch(child.name)):
        _read_session(run, session)
    for stem in RESULTS:
        if (path / f'{stem}.json').exists():
            run.results[stem] = _read_json(run, path / f'{stem}.json')
    run.results = {key: value for key, value in run.results.items() if value}
    for picture in sorted((path / 'insight').glob('*.png')):
        told = picture.with_suffix('.json')
        run.insights.append((picture, (_read_json(run, told) if told.exists() else None) or {}))
    _read_config(run)
    _read_checkpoints(run)
    return run


def _read_json(run: RunFolder, path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        run.faults.append(f'{path} cannot be read: {error}')
        return None


def _read_session(run: RunFolder, folder: Path) -> None:
    """Add one start of a training or test."""
    logs = sorted(folder.glob('*.log'))
    log = read_log_file(logs[0]) if logs else LogFile()
    lines = read_scalars(folder / 'vis_data' / 'scalars.json')
    training = [line for line in lines if 'loss' in line]
    if training or log.images is not None:
        _go_on(run, log, training)
    elif not run.sessions:
        run.log = log
    run.sessions.append(folder.name)
    for line in lines:
        if any(key.startswith('monitor/') for key in line):
            run.monitor = [old for old in run.monitor if old['step'] < line['step']] + [line]
        elif 'loss' not in line:
            run.metrics.update({key: value for key, value in line.items() if '/' in key})
    for line in read_scalars(folder / f'{folder.name}.json'):  # of a test
        run.metrics.update({key: value for key, value in line.items() if '/' in key})
    run.drawn = sorted((folder / 'vis_data' / 'vis_image').glob('*.png')) or run.drawn


def _go_on(run: RunFolder, log: LogFile, training: list[dict]) -> None:
    """Add a start of a training: it went on from a checkpoint, after which what was logged ran again, or began anew."""
    if log.resumed is None:
        run.training, run.monitor = [], []
    else:
        run.training = [line for line in run.training if line.get('step', 0) <= log.resumed]
        log.warnings = list(dict.fromkeys([*run.log.warnings, *log.warnings]))
        log.epoch_length = log.epoch_length or run.log.epoch_length  # there may have been nothing left to do
        log.saved = log.saved or run.log.saved
    run.training += training
    run.log = log


def read_scalars(path: Path) -> list[dict]:
    """Read the lines of a ``scalars.json``; none if it is missing, and without a last one that was cut off."""
    lines = []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue  # an interrupted run ends in the middle of one
    return [line for line in lines if isinstance(line, dict)]


def _read_config(run: RunFolder) -> None:
    files = sorted(run.path.glob('*.py'), key=os.path.getmtime)
    files = files or sorted(run.path.glob('*/vis_data/config.py'))
    if not files:
        return
    try:
        run.config = Config.fromfile(files[-1], import_custom_modules=False)
        run.config_file = str(files[-1].relative_to(run.path))
    except Exception as error:  # a config is a program, and raises what it likes
        run.faults.append(f'{files[-1]} cannot be read: {error}')


def _read_checkpoints(run: RunFolder) -> None:
    """Find the checkpoints, and read ``meta`` of the newest."""
    run.checkpoints = sorted(checkpoint_files(run.path), key=lambda path: path.stat().st_mtime)
    if run.checkpoints:
        try:
            checkpoint = CheckpointLoader.load_checkpoint(str(run.checkpoints[-1]), 'cpu', logger='silent')
            run.meta = checkpoint.get('meta') or {}
            run.log.epoch_length = run.log.epoch_length or run.meta.get('epoch_length')
        except Exception as error:  # damaged files raise whatever their bytes say
            run.faults.append(f'{run.checkpoints[-1].name} cannot be read: {error}')
