"""Read a config with the options of a command line."""

import copy
import os.path as osp
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.utils import get_installed_path
from torch import nn

from us3l_mm.registry import find_class
from us3l_mm.slim import SlimmableBatchNorm2d, SwitchableBatchNorm2d, Width
from us3l_mm.utils.nearest import nearest

from .check_keys import refuse_misspelt
from .find import find_dicts
from .input_size import input_size
from .own_data import OwnData, use_own_data
from .set_data import apply_own_root, move_data, set_classes
from .set_labels import check_coco, follow_data, limit_topk, number_folders
from .set_width import fit_width


def read_config(path: str, cfg_options: dict | None = None, own: OwnData | None = None) -> Config:
    """Read a config and override entries.

    Args:
        path (str): Config file, or the name of one that an installed package ships, such as
            ``'us3l_mm::us3l/r50_8xb256.py'``.
        cfg_options (dict, optional): Entries to override. A top-level ``data_root``, here or in the file, moves all
            data, see :func:`move_data`. A top-level ``classes``, here or in the file, sets the classes of data sets and
            heads, see :func:`set_classes`.
        own (OwnData, optional): Data of one's own, see :func:`use_own_data`. Defaults to None.

    Returns:
        Config: The config. Evaluators have the annotation files of their data sets, and labels go by the names of
        classes; see :func:`follow_data`, :func:`check_coco` and :func:`number_folders`. No top-k accuracy has a k above
        the number of classes.

    Raises:
        FileNotFoundError: If there is no such file or package.
        ValueError: See :func:`move_data`, :func:`use_own_data`, :func:`set_classes` and :func:`number_folders`; or if a
            top-level key is misspelt.
    """
    cfg = apply_own_root(Config.fromfile(_find_config(path)))
    if cfg_options is not None:
        old = cfg.get('data_root')
        cfg.merge_from_dict(cfg_options)
        if 'data_root' in cfg_options:
            move_data(cfg, old, cfg.data_root)
    refuse_misspelt(cfg)
    _add_preprocessor(cfg)
    if own is not None:
        use_own_data(cfg, own)
    if 'classes' in cfg:
        set_classes(cfg, cfg.classes)
    check_coco(follow_data(cfg), stock_classes=False)
    return limit_topk(number_folders(cfg))


def _find_config(name: str | Path) -> Path:
    """Path of a config; if there is none, raise FileNotFoundError with the one that is most like it."""
    package, shipped, path = str(name).rpartition('::')
    try:
        path = Path(get_installed_path(package), '.mim/configs', path) if shipped else Path(path)
    except ModuleNotFoundError:
        raise FileNotFoundError(
            f'no config file {name}: no package {package!r} is installed; `us3l configs` lists ours'
        ) from None
    if path.is_file():
        return path
    known = _shipped(package, path) if shipped else _nearby(path)
    like = nearest(path.stem, list(known.values()))
    meant = next((found for found, stem in known.items() if stem == like), None)
    hint = (
        '`us3l configs` lists ours' if shipped else 'paths start from the working directory; `us3l configs` lists ours'
    )
    raise FileNotFoundError(f'no config file {name}; {f"did you mean {meant}?" if meant else hint}')


def _nearby(path: Path) -> dict[str, str]:
    """Stems of the configs that a path may mean: those beside it, in ``configs`` of the working directory, and ours."""
    folder = path.parent if path.parent.is_dir() and path.parent != Path() else Path('configs')
    found = _sorted_for(path, {*folder.glob('*.py'), *Path('configs').rglob('*.py')})
    return {**{str(file): file.stem for file in found}, **_shipped('us3l_mm', path)}


def _shipped(package: str, path: Path) -> dict[str, str]:
    """Stems of the configs that a package ships, by the names that tools take."""
    root = Path(get_installed_path(package), '.mim/configs')
    found = _sorted_for(path, {file.relative_to(root) for file in root.rglob('*.py')})
    return {f'{package}::{file.as_posix()}': file.stem for file in found if not file.parts[0].startswith('_')}


def _sorted_for(path: Path, files: set[Path]) -> list[Path]:
    """Sort files, those from a folder of the name of a path's first: others may have a file of the same name."""
    return sorted(files, key=lambda file: (file.parent.name != path.parent.name, file))


def load_config(
    path: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    width: Width | None = None,
    own: OwnData | None = None,
) -> Config:
    """Read a config for a Runner, with the options that all tools share.

    Args:
        path (str): Config file, as for :func:`read_config`.
        cfg_options (dict, optional): Entries to override, before the other arguments; see :func:`read_config`.
        work_dir (str, optional): Folder for logs and checkpoints. Defaults to that of the config, or else to
            ``work_dirs/<name of the config>``.
        launcher (str): Job launcher, as for :class:`mmengine.runner.Runner`. Defaults to ``'none'``.
        width (Width, optional): Width of the backbone, see :func:`set_width`. Defaults to that of the config.
        own (OwnData, optional): Data of one's own, see :func:`use_own_data`. Defaults to None.

    Returns:
        Config: The config, with the size of the images as ``input_size``, see :func:`input_size`, which checkpoints
        then tell.

    Raises:
        ValueError: See :func:`set_width` and :func:`read_config`; or if ``sync_bn`` would replace slimmable layers.
    """
    cfg = read_config(path, cfg_options, own)
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    _refuse_sync_bn(cfg, fit_width(cfg, width))
    cfg.input_size = input_size(cfg)
    return check_coco(cfg)


def _add_preprocessor(cfg: Config) -> None:
    """Merge the top-level ``data_preprocessor``, which comes with the data set, into the model's; the model's wins.

    A Runner does so only if the model has none, and some tools build models without a Runner. One of another type than
    the model's is left alone.
    """
    pixels, model = cfg.get('data_preprocessor'), cfg.get('model')
    if pixels is None or model is None:
        return
    own = model.get('data_preprocessor') or ConfigDict()
    kinds = [find_class(part.get('type'), cfg.get('default_scope')) or part.get('type') for part in (pixels, own)]
    if not own or kinds[0] in (None, kinds[1]):
        merged = copy.deepcopy(pixels)
        merged.update(own)  # unlike {**own}, it leaves classes of pure-Python configs such that they can be dumped
        model.data_preprocessor = merged


def _refuse_sync_bn(cfg: Config, backbone: nn.Module | None) -> None:
    """Raise ValueError if the Runner would replace slimmable batch norms by torch's, which have no widths."""
    if cfg.get('sync_bn') is None:
        return
    kinds = (SlimmableBatchNorm2d, SwitchableBatchNorm2d)
    # Look at what a backbone of ours builds, not at its config: its norms are slimmable by default, and dense at a
    # fixed width.
    parts = [part for name, part in cfg.get('model', {}).items() if name != 'backbone' or backbone is None]
    scope = cfg.get('default_scope')
    named = any(issubclass(find_class(part.get('type'), scope) or object, kinds) for part in find_dicts(parts))
    if named or (backbone is not None and any(isinstance(layer, kinds) for layer in backbone.modules())):
        raise ValueError(
            f"sync_bn={cfg.sync_bn!r} would replace slimmable batch norms by torch's, which mix widths; set "
            'sync_bn=None and, to share statistics of GPUs, '
            "norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d', sync=True)"
        )
