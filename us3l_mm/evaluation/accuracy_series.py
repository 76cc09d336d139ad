"""Collect accuracies over MACs from the result files of any number of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from us3l_mm.utils.tables import image_text

from .run_folder import RunFolder

PROTOCOLS = {'linear_probe': 'linear probe', 'fast_probe': 'fast probe', 'finetune': 'fine-tuned'}
_METRICS = {'top1': 'Top-1 accuracy (%)', 'knn20': 'k-NN accuracy (%), k = 20'}


@dataclass
class Series:
    """Accuracies of one run at several widths.

    Attributes:
        label (str): What was run.
        group (str): What is comparable: metric, protocol, data set and size of the images.
        points (list[tuple]): For each width (width, MACs or None, accuracy in percent, spread or None).
        published (bool): Whether these are numbers of a paper, not ours. Defaults to False.
    """

    label: str
    group: str
    points: list[tuple[float, float | None, float, float | None]] = field(default_factory=list)
    published: bool = False


def accuracy_series(runs: Sequence[RunFolder]) -> list[Series]:
    """Collect the accuracies of probes, fine-tunings and tables.

    The runs below a folder of ``run_table.py`` are left out: its table has them.
    """
    tables = [run for run in runs if isinstance(run.results.get('table'), dict)]
    found = [series for run in tables for series in table_series(run)]
    for run in runs:
        if any(run is not table and run.path.is_relative_to(table.path) for table in tables):
            continue
        for stem, protocol in PROTOCOLS.items():
            if stem in run.results:
                found += _probe_series(run.name, run.results[stem], protocol)
    return found


def data_name(config: str) -> str:
    """Name of a data set, which ends the names of OpenMMLab's configs."""
    return Path(config).stem.rsplit('_', 1)[-1]


def _probe_series(name: str, result: dict[str, Any], protocol: str) -> list[Series]:
    """Make a series of each metric of a probe."""
    rows, found = result['widths'], []
    sizes = {image_text(row['size']) for row in rows if row.get('size')}
    where = ', '.join([protocol, data_name(result.get('config', '')), *(f'{size} pixels' for size in sorted(sizes))])
    for key, title in _METRICS.items():
        points = [(row['width'], row.get('macs'), row[key], None) for row in rows if row.get(key) is not None]
        found.append(Series(name, f'{title}: {where}', points))
    for few in dict.fromkeys(key for row in rows for key in row.get('few') or {}):
        points = []
        for row in rows:
            if few in row.get('few', {}):
                points.append((row['width'], row.get('macs'), row['few'][few]['mean'], row['few'][few].get('std')))
        labels = f'{few} of the labels' if '%' in few else f'{few} labels a class'
        found.append(Series(name, f'Accuracy (%) with {labels}: {where}', points))
    return [series for series in found if series.points]


def table_series(run: RunFolder) -> list[Series]:
    """Make series of ``table.json`` of ``run_table.py``, measured and published, which say what they are."""
    measured, published = _captions(run.path / 'table.md')
    found = []
    for case, row in run.results['table'].items():
        macs, spread = row.get('macs') or {}, row.get('measured_std') or {}
        label = f'{case}: {row.get("what", case)}'
        points = [(float(w), macs.get(w), value, spread.get(w)) for w, value in row.get('measured', {}).items()]
        found.append(Series(label, f'Linear accuracy (%): {measured}', points))
        known = [(float(w), None, value, None) for w, value in row.get('published', {}).items() if value is not None]
        found.append(Series(f'{label}, published ({published})', f'Linear accuracy (%): {measured}', known, True))
    return [series for series in found if series.points]


def _captions(path: Path) -> tuple[str, str]:
    """Read off ``table.md`` what was measured, and with what data the paper did."""
    lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
    told = dict(line.split(': ', 1) for line in lines if line.startswith(('Measured: ', 'Published: ')))
    measured = told.get('Measured', path.parent.name).rsplit('; ', 1)[0].rstrip('.')
    return measured, told.get('Published', 'in a paper').split(';')[0]
