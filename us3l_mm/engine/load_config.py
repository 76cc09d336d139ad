"""From the command line of a tool to its config."""

import os.path as osp
from collections.abc import Mapping

from mmengine.config import Config

from us3l_mm.slim import SlimmableBatchNorm2d, SwitchableBatchNorm2d

from .set_data import find_dicts, move_data, set_classes
from .set_width import build_backbone, set_width


def read_config(path: str, cfg_options: dict | None = None) -> Config:
    """Read a config and override entries of it, those that reach many places among them.

    Args:
        path (str): Config file.
        cfg_options (dict, optional): Entries to override. A top-level ``data_root`` moves all data, see
            :func:`move_data`; a top-level ``classes``, here or in the file, sets data sets and heads, see
            :func:`set_classes`.

    Raises:
        ValueError: See :func:`move_data` and :func:`set_classes`.
    """
    cfg = Config.fromfile(path)
    if cfg_options is not None:
        old = cfg.get('data_root')
        cfg.merge_from_dict(cfg_options)
        if old is not None and 'data_root' in cfg_options:
            move_data(cfg, old, cfg.data_root)
    if 'classes' in cfg:
        set_classes(cfg, cfg.classes)
    return cfg


def load_config(
    path: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    width: float | Mapping[str, float] | None = None,
) -> Config:
    """Read a config and put the options that all tools share into it.

    Args:
        path (str): Config file.
        cfg_options (dict, optional): Entries to override, before all others; see :func:`read_config`.
        work_dir (str, optional): Where logs and checkpoints go. Defaults to that of the config, or else
            ``work_dirs/<name of the config>``.
        launcher (str): Job launcher, as for :class:`mmengine.runner.Runner`.
        width (float | Mapping[str, float], optional): See :func:`set_width`.

    Raises:
        ValueError: See :func:`set_width` and :func:`read_config`; or if ``sync_bn`` would replace slimmable layers.
    """
    cfg = read_config(path, cfg_options)
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    set_width(cfg, width)
    _refuse_sync_bn(cfg)
    return cfg


def _refuse_sync_bn(cfg: Config) -> None:
    """Raise if the Runner would replace slimmable batch norms by plain ones of torch, which have no widths."""
    if cfg.get('sync_bn') is None:
        return
    kinds = (SlimmableBatchNorm2d, SwitchableBatchNorm2d)
    model, backbone = cfg.get('model', {}), build_backbone(cfg)
    # A backbone of ours is judged by what it builds: it has slimmable norms by default, and none at a fixed width.
    parts = find_dicts([part for name, part in model.items() if name != 'backbone' or backbone is None])
    named = any(kind.__name__ in str(part.get('type')) for part in parts for kind in kinds)
    if named or (backbone is not None and any(isinstance(layer, kinds) for layer in backbone.modules())):
        raise ValueError(
            f"sync_bn={cfg.sync_bn!r} would replace slimmable batch norms by torch's, which mix the statistics of "
            'widths. Set sync_bn = None and, to share statistics between GPUs, '
            "norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d', sync=True)"
        )
