"""From the command line of a tool to its config."""

import os.path as osp

from mmengine.config import Config

from .set_data import move_data, set_classes
from .set_width import set_width


def load_config(
    path: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    width: float | None = None,
) -> Config:
    """Read a config and put the options that all tools share into it.

    Args:
        path (str): Config file.
        cfg_options (dict, optional): Entries to override, before all others. A top-level ``data_root`` moves all
            data, see :func:`move_data`; a top-level ``classes``, here or in the file, sets data sets and heads,
            see :func:`set_classes`.
        work_dir (str, optional): Where logs and checkpoints go. Defaults to that of the config, or else
            ``work_dirs/<name of the config>``.
        launcher (str): Job launcher, as for :class:`mmengine.runner.Runner`.
        width (float, optional): See :func:`set_width`.

    Raises:
        ValueError: See :func:`set_width`, :func:`move_data` and :func:`set_classes`.
    """
    cfg = Config.fromfile(path)
    cfg.launcher = launcher
    if cfg_options is not None:
        old = cfg.get('data_root')
        cfg.merge_from_dict(cfg_options)
        if old is not None and 'data_root' in cfg_options:
            move_data(cfg, old, cfg.data_root)
    if 'classes' in cfg:
        set_classes(cfg, cfg.classes)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    return set_width(cfg, width)
