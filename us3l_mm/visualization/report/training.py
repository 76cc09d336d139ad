"""Sections on trainings: what ran, how it went, its curves."""

from collections.abc import Sequence

from us3l_mm.evaluation import COLLAPSED, RunFolder, Verdict, judge, training_length
from us3l_mm.utils.tables import image_text

from ..curves import Curve, Panel
from . import page
from .drawing import Drawings

_MANY_CARDS = 12  # trainings whose cards are all shown
_MANY = 4  # trainings that have panels of their own; more share them
_ROLES = (  # key, name
    ('loss_widest', None),
    ('loss_narrowest', 'narrowest'),
    ('loss_random', 'random widths'),
)
_MONITOR = (  # key, title, vertical axis
    ('knn', 'k-NN', 'accuracy (%)'),
    ('linear', 'Linear head', 'accuracy (%)'),
    ('rankme', 'Effective rank', 'RankMe'),
    ('feature_std', 'Spread of features', 'feature_std'),
    ('alignment', 'Alignment', 'alignment'),
    ('uniformity', 'Uniformity', 'uniformity'),
)


def verdict_cards(runs: Sequence[RunFolder]) -> str:
    """One card for each training, with the verdict in words; of many, those that went well are folded."""
    verdicts = [(run, judge(run)) for run in runs]
    well = [one for one in verdicts if one[1].word in ('healthy', 'finished')] if len(runs) > _MANY_CARDS else []
    shown = _grid([one for one in verdicts if one not in well])
    return shown + (page.fold(f'{len(well)} trainings that went well', _grid(well)) if well else '')


def _grid(verdicts: Sequence[tuple[RunFolder, Verdict]]) -> str:
    cards = []
    for run, verdict in verdicts:
        notes = [f'warned: {warning}' for warning in run.log.warnings if 'nothing to resume' not in warning][:3]
        said = ''.join(page.paragraph(note, 'muted') for note in [*notes, *run.faults])
        word = f'{page.escape(run.kind)}: <span class="word {verdict.word}">{verdict.word}</span>'
        content = f'<h3>{page.escape(run.name)}</h3><p>{word}</p>{page.paragraph(verdict.reason)}{said}'
        cards.append(f'<div class="card">{content}</div>')
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ''


def what_ran(runs: Sequence[RunFolder]) -> str:
    """Settings, versions, machine and data of each training; the first is open, and many are folded."""
    folds = ''.join(page.fold(run.name, page.facts(_facts(run)), opened=run is runs[0]) for run in runs)
    return page.fold(f'{len(runs)} trainings', folds) if len(runs) > _MANY_CARDS else folds


def _facts(run: RunFolder) -> dict[str, object]:
    log, env = run.log, run.log.environment
    loader = run.config.get('train_dataloader') or {}
    gpus = [value for key, value in env.items() if key.startswith('GPU ') and key != 'GPU number']
    cpu = f'{log.cores} CPU cores' if log.cores else 'CPU' if env.get('CUDA available') == 'False' else ''
    size = run.meta.get('input_size')
    versions = {
        'us3l_mm': log.version or run.meta.get('us3l_mm_version'),
        'Python': env.get('Python', '').split(' ')[0],
    }
    versions |= {name: env.get(name) for name in ('PyTorch', 'TorchVision', 'MMEngine')}
    done, goal, unit = training_length(run)
    return {
        'folder': run.path,
        'config': run.config_file,
        'length': f'{done} of {goal} {unit}',
        'data': _data(loader),
        'images': f'{log.images:,}' if log.images is not None else _images(run, loader),
        'image size': f'{image_text(size)} pixels' if size else '',
        'batch': f'{loader["batch_size"]} images{_devices(env)}' if 'batch_size' in loader else '',
        'seed': run.meta.get('seed', env.get('seed')),
        'hardware': '; '.join([*gpus, *([cpu] if cpu else [])]),
        'commit': log.commit,
        'versions': ', '.join(f'{name} {value}' for name, value in versions.items() if value),
        'started': '; '.join(map(_time, run.sessions)),
        'last entry': log.last,
        'newest checkpoint': run.checkpoints[-1].name if run.checkpoints else 'none',
    }


def _devices(environment: dict[str, str]) -> str:
    count = environment.get('GPU number', '1')
    return '' if count == '1' else f' on each of {count} devices'


def _time(session: str) -> str:
    """Write '20261127_181709' as '2026-11-27 18:17:09'."""
    return f'{session[:4]}-{session[4:6]}-{session[6:8]} {session[9:11]}:{session[11:13]}:{session[13:]}'


def _data(loader: dict) -> str:
    """Name the data set of a loader, below what wraps it, and where it is."""
    data = loader.get('dataset') or {}
    while 'dataset' in data:
        data = data['dataset']
    where = ' '.join(str(data[key]) for key in ('data_root', 'ann_file', 'split') if data.get(key))
    return f'{str(data.get("type", "")).removeprefix("us3l_mm.")} {where}'.strip()


def _images(run: RunFolder, loader: dict) -> str:
    """Count the images of an epoch, where the log does not say."""
    if not run.log.epoch_length or 'batch_size' not in loader:
        return ''
    world = int(run.log.environment.get('GPU number', 1))
    return f'about {run.log.epoch_length * loader["batch_size"] * world:,} an epoch'


def training_curves(runs: Sequence[RunFolder], drawings: Drawings) -> str:
    """Losses by role, and ``feature_std``, over epochs."""
    logged = [run for run in runs if run.training]
    if len(logged) > _MANY:
        keys = {'loss': 'Loss', 'feature_std': 'Spread of features'}
        shared = {title: [c for run in logged for c in _curves(run, [(key, run.name)])] for key, title in keys.items()}
        panels = [Panel(curves, 'epoch', title, title) for title, curves in shared.items() if curves]
        return page.figures([drawings.draw(f'all-{panel.ylabel}', panel) for panel in panels])
    parts, others = [], []
    for run in logged:
        drawn = [drawings.draw(f'{run.name}-{name}', panel, least=least) for name, panel, least in _panels(run)]
        if run.kind == 'pretraining':
            parts.append(f'<h3>{page.escape(run.name)}</h3>{page.figures(drawn)}')
        else:
            others += drawn
    return ''.join(parts) + (f'<h3>Other trainings</h3>{page.figures(others)}' if others else '')


def _panels(run: RunFolder) -> list[tuple[str, Panel, float | None]]:
    """Name, panel and lower end of each plot of a training."""
    unit = 'epoch' if run.log.epoch_length else 'iteration'
    base, others = _curves(run, _ROLES[:1]), _curves(run, _ROLES[1:])
    found: list[tuple[str, Panel, float | None]] = []
    if run.kind != 'pretraining' or not base:
        return [('loss', Panel(_curves(run, [('loss', None)]), unit, 'loss', f'{run.name}: loss'), None)]
    found.append(('loss-widest', Panel(base, unit, 'loss', 'Loss of the widest'), None))
    if others:
        found.append(('loss-narrower', Panel(others, unit, 'loss', 'Loss of narrower widths'), None))
    for curve in _curves(run, [('feature_std', 'of the widest')]):
        ends = [curve.x[0], curve.x[-1]]
        healthy = Curve(ends, [1, 1], 'healthy: 1', options={'fmt': '--', 'color': 'C2'})
        collapsed = Curve(ends, [COLLAPSED] * 2, f'collapsed: below {COLLAPSED}', options={'fmt': '--', 'color': 'C3'})
        found.append(('feature_std', Panel([curve, healthy, collapsed], unit, 'feature_std', 'Spread of features'), 0))
    found += [
        ('lr', Panel([curve], unit, 'learning rate', 'Learning rate'), 0) for curve in _curves(run, [('lr', None)])
    ]
    return found


def _curves(run: RunFolder, keys: Sequence[tuple[str, str | None]]) -> list[Curve]:
    """Curves of logged values by epoch, or by iteration where there are no epochs; with points where they are few."""
    curves = []
    for key, label in keys:
        lines = [line for line in run.training if key in line]
        if lines:
            x = [line.get('iter', line.get('step', 0)) / (run.log.epoch_length or 1) for line in lines]
            options = {'fmt': 'o-' if len(lines) < 12 else '-'}
            curves.append(Curve(x, [line[key] for line in lines], label, options=options))
    return curves


def monitor_curves(runs: Sequence[RunFolder], drawings: Drawings) -> str:
    """What the monitor measured by epoch, one curve for each width, its choice of a checkpoint, and its warnings."""
    parts = []
    for run in runs:
        told = run.results.get('monitor') or {}
        best = [
            f'Best by {name}: epoch {one["epoch"]}, {one["value"]:.4g} at width {one["width"]}, {one["checkpoint"]}.'
            for name, one in (told.get('best') or {}).items()
        ]
        warned = [f'Warning at epoch {one["epoch"]}: {one["text"]}' for one in told.get('warnings') or ()]
        drawn = []
        for key, title, unit in _MONITOR:
            curves = _monitored(run, f'monitor/{key}_w')
            if curves:
                least = 0 if key in ('rankme', 'feature_std') else None
                drawn.append(
                    drawings.draw(f'{run.name}-monitor-{key}', Panel(curves, 'epoch', unit, title), least=least)
                )
        if drawn or best or warned:
            said = ''.join(map(page.paragraph, [*best, *warned[-5:]]))
            parts.append(f'<h3>{page.escape(run.name)}</h3>{said}{page.figures(drawn)}')
    return ''.join(parts)


def _monitored(run: RunFolder, prefix: str) -> list[Curve]:
    widths = {key.removeprefix(prefix) for line in run.monitor for key in line if key.startswith(prefix)}
    curves = []
    for width in sorted(widths, key=float, reverse=True):
        lines = [line for line in run.monitor if prefix + width in line]
        curves.append(
            Curve([line['step'] for line in lines], [line[prefix + width] for line in lines], f'width {width}')
        )
    return curves
