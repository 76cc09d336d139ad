"""Put a report of runs together."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from us3l_mm.evaluation import RunFolder, Series, accuracy_series, judge
from us3l_mm.utils.files import write_files

from . import page, results, training
from .drawing import Drawings
from .next_steps import missing_parts, next_commands


def write_report(
    runs: Sequence[RunFolder],
    out: Path,
    title: str = '',
    summary: str = '',
    published: Sequence[Series] = (),
    command: str = '',
) -> Path:
    """Write a page on some runs, which needs no other file, and its figures as PNG files in a folder beside it.

    Args:
        runs (Sequence[RunFolder]): Runs, as :func:`us3l_mm.evaluation.find_runs` finds them.
        out (Path): The page, such as ``report.html``; the figures go to ``report_figures/``.
        title (str): Heading. Defaults to the names of the runs.
        summary (str): Paragraph below it. Defaults to none: how many trainings went how.
        published (Sequence[Series]): Published accuracies to show beside ours. Defaults to none.
        command (str): Command that made the report. Defaults to none.

    Returns:
        Path: Folder of the PNG files.
    """
    trained = sorted((run for run in runs if run.trains), key=lambda run: run.kind != 'pretraining')
    drawings = Drawings(out.with_name(f'{out.stem}_figures'))
    series = _with_published(accuracy_series(runs), published)
    steps = next_commands(runs)
    lacking = missing_parts(runs)
    sections = {
        'verdict': ('Verdict', training.verdict_cards(trained)),
        'accuracy': ('Accuracy', results.accuracy(series, drawings)),
        'curves': ('Training curves', training.training_curves(trained, drawings)),
        'monitor': ('Monitor', training.monitor_curves(runs, drawings)),
        'detection': ('Detection', results.detection(runs, drawings)),
        'transfer': ('Transfer', results.transfer(runs)),
        'cost': ('Cost of training', results.cost(runs)),
        'insight': ('Insight', results.insight(runs)),
        'ran': ('What ran', training.what_ran(trained)),
        'next': ('Next commands', page.commands(steps) if steps else ''),
        'missing': ('What is not here, and how to get it', page.facts(lacking, 'stacked') if lacking else ''),
    }
    there = {anchor: part for anchor, part in sections.items() if part[1]}
    links = ''.join(f'<a href="#{anchor}">{page.escape(name)}</a>' for anchor, (name, _) in there.items())
    made = f'Made on {time.strftime("%Y-%m-%d %H:%M")}{f" by {command}" if command else ""}.'
    body = [page.paragraph(summary or _summary(trained, runs)), page.paragraph(made, 'muted'), f'<nav>{links}</nav>']
    body += [page.section(anchor, name, content) for anchor, (name, content) in there.items()]
    whole = page.page(title or f'Report: {", ".join(run.name for run in runs[:3])}', '\n'.join(body))
    write_files({**drawings.files, out: lambda path: path.write_text(whole, encoding='utf-8')}, force=True)
    return drawings.folder


def _with_published(series: list[Series], published: Sequence[Series]) -> list[Series]:
    """Add published numbers, whose ``group`` is their data set, to linear probes on that data, or on their own."""
    found = list(series)
    for one in published:
        alike = (ours.group for ours in series if ours.group.startswith('Top-1') and f', {one.group},' in ours.group)
        found.append(replace(one, group=next(alike, f'Linear accuracy (%): published, {one.group}')))
    return found


def _summary(trained: Sequence[RunFolder], runs: Sequence[RunFolder]) -> str:
    words = [judge(run).word for run in trained]
    counts = ', '.join(f'{words.count(word)} {word}' for word in dict.fromkeys(words))
    text = f'{len(trained)} trainings: {counts}.' if len(trained) > 1 else f'One training: {counts[2:]}.'
    text = text if trained else 'No training is here.'
    others = len(runs) - len(trained)
    return f'{text} {others} folder{"s" if others != 1 else ""} of results besides.' if others else text
