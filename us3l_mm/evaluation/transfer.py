"""Probe one checkpoint on other data sets."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS

from us3l_mm.config import OwnData, find_missing, load_config, move_data
from us3l_mm.slim import trace_channels, width_label
from us3l_mm.utils.files import write_text
from us3l_mm.utils.tables import MISSING, image_text, markdown_table

from .feature_files import file_hash
from .probe import fast_rows, paper_rows

SETS = ('cifar10', 'cifar100', 'flowers102', 'pets', 'dtd', 'food101', 'caltech101', 'aircraft')
_RECIPE = 'r50_1xb256-100e_{}.py'  # in configs/linear


@dataclass(frozen=True)
class Source:
    """What is probed.

    Attributes:
        checkpoint (str): Calibrated checkpoint.
        backbone (dict[str, Any]): Config of its backbone.
        pixels (dict[str, Any]): ``mean`` and ``std`` of its images, or none of them: ImageNet's.
        widths (Sequence[float], optional): Widths; None for those of the recipe, or the fixed one of the backbone.
        image_size (int, optional): Side of the images in pixels; None for that of the recipe, 224.
    """

    checkpoint: str
    backbone: dict[str, Any]
    pixels: dict[str, Any]
    widths: Sequence[float] | None = None
    image_size: int | None = None


def transfer_config(
    source: Source, name: str, data_root: str, work_dir: Path, recipes: Path, cfg_options: dict | None = None
) -> Config:
    """Make the config of a linear probe of a checkpoint on another data set, by the paper's recipe of transfer.

    Args:
        source (Source): The checkpoint.
        name (str): One of :data:`SETS`, or a folder with ``train`` and ``val``, each with a folder for each class.
        data_root (str): Folder in which the sets lie, each in a folder of its name.
        work_dir (Path): Work dir.
        recipes (Path): Folder with the configs, ``configs/linear``.
        cfg_options (dict, optional): Entries to override.

    Raises:
        FileNotFoundError: If the data are not there; it says where to get them.
    """
    known = name in SETS
    own = OwnData(data_root=None if known else name, image_size=source.image_size)
    path = recipes / _RECIPE.format(name if known else 'folder')
    cfg = load_config(str(path), cfg_options, str(work_dir), own=own)
    if known:
        move_data(cfg, f'data/{name}', str(Path(data_root, name)))
    missing = find_missing(cfg, ['train_dataloader', 'test_dataloader'])
    if missing is not None:
        raise FileNotFoundError(
            f'no {missing.path}. {missing.source}; {missing.built.data_root} must hold {missing.layout}'
        )
    given = dict(type='Pretrained', checkpoint=source.checkpoint)
    cfg.model.backbone = ConfigDict({**source.backbone, 'init_cfg': given})
    cfg.model.data_preprocessor.update(source.pixels)
    if trace_channels(MODELS.build(source.backbone), 1.0)[1][-1].dim() == 2:
        cfg.model.neck = None  # a transformer's features are (N, C)
    fixed = source.backbone.get('width')
    cfg.model.widths = list(source.widths or ([fixed] if fixed else cfg.model.widths))
    return cfg


def transfer_rows(
    source: Source, names: Sequence[str], protocol: str, work_dir: Path, configured: Callable[[str, Path], Config]
) -> list[dict[str, Any]]:
    """Probe a checkpoint on several data sets; those that are done with the same settings are skipped.

    Args:
        source (Source): The checkpoint.
        names (Sequence[str]): Data sets.
        protocol (str): ``'fast'``, see :func:`fast_rows`, or ``'paper'``, see :func:`paper_rows`.
        work_dir (Path): Folder; each set gets one of its name in it.
        configured (Callable): Makes the config of a set, by its name and its work dir; see :func:`transfer_config`.

    Returns:
        list[dict[str, Any]]: For each set ``dataset``, and ``status``: ``'done'`` or ``'missing: ...'``. If it is done,
        ``size``, by label of the width ``widths``, the top-1 accuracy in percent, and by the fast protocol
        ``mean_per_class``; and ``costs``, see :func:`width_complexity`.
    """
    weights, rows = file_hash(source.checkpoint), []
    for number, name in enumerate(names, start=1):
        folder = work_dir / Path(name).name
        print_log(f'data set {number} of {len(names)}: {name}', 'current')
        try:
            cfg = configured(name, folder)
        except FileNotFoundError as error:
            print_log(f'{name} is left out: {error}', 'current')
            rows.append(dict(dataset=Path(name).name, status=f'missing: {error}', size=None, widths={}))
            continue
        settings = json.loads(json.dumps(dict(protocol=protocol, weights=weights, config=_settings(cfg)), default=str))
        done = folder / 'result.json'
        before = json.loads(done.read_text()) if done.is_file() else {}
        if before.get('settings') == settings:
            print_log(f'{folder} is done, skipped', 'current')
        else:
            found = fast_rows(cfg, source.checkpoint) if protocol == 'fast' else paper_rows(cfg)
            before = dict(settings=settings, row=_row(Path(name).name, found))
            write_text(done, json.dumps(before, indent=2))
        rows.append(before['row'])
    return rows


def _settings(cfg: Config) -> dict[str, Any]:
    kept = ('model', 'train_dataloader', 'test_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg')
    return {key: cfg[key] for key in kept}


def _row(name: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gather the rows of a probe into one of a data set."""
    row: dict[str, Any] = dict(dataset=name, status='done', size=list(found[0]['size']))
    for key, metric in (('widths', 'top1'), ('mean_per_class', 'mean_per_class')):
        if metric in found[0]:
            row[key] = {width_label(each['width']): each[metric] for each in found}
    row['costs'] = [{key: each[key] for key in ('width', 'params', 'macs')} for each in found]
    return row


def transfer_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format a Markdown table like the paper's: a line for each width, a column for each data set.

    Args:
        rows (Sequence[dict[str, Any]]): See :func:`transfer_rows`.
    """
    done = [row for row in rows if row['status'] == 'done']
    header = ['width', 'params (M)', 'MACs (G)', *(row['dataset'] for row in rows)]
    lines = []
    for cost in done[0]['costs'] if done else ():
        label = width_label(cost['width'])
        cells = [f'{row["widths"][label]:.2f}' if label in row['widths'] else MISSING for row in rows]
        lines.append([label, f'{cost["params"] / 1e6:.2f}', f'{cost["macs"] / 1e9:.3f}', *cells])
    notes = [f'{row["dataset"]}: {row["status"]}' for row in rows if row['status'] != 'done']
    sizes = {image_text(row['size']) for row in done}
    if done:
        notes.insert(0, f'Top-1 accuracy (%), images of {", ".join(sorted(sizes))} pixels.')
    return '\n\n'.join([markdown_table(header, lines), *notes])
