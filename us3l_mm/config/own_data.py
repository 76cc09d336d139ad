"""Train on data of one's own: what a config has to change for it, derived in one place."""

from dataclasses import dataclass, fields
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log
from mmpretrain.models import BaseSelfSupervisor

from us3l_mm.registry import find_class

from .find import is_detector
from .own_detection import set_short_side, use_detection_set
from .own_images import set_image_size, use_labelled, use_unlabelled
from .schedule import fit_to_set, set_batch_size, set_epochs


@dataclass(frozen=True)
class OwnData:
    """What the options of a command line say about data of one's own; None leaves what the config has.

    Attributes:
        data_root (str, optional): Folder. For a pretraining: with images, also below it. For a classifier or a linear
            probe: with ``train`` and ``val``, each with a folder for each class; with ``val_fraction`` the folders of
            the classes alone. For a detector: a set in COCO's or in VOC's format.
        image_size (int, optional): Side of the images that the model gets, in pixels; for a detector the short side.
        epochs (int, optional): Length of the training.
        batch_size (int, optional): Images of a batch on one device.
        val_fraction (float, optional): Share of the images of each class to test on, in (0, 1).
    """

    data_root: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    val_fraction: float | None = None


def use_own_data(cfg: Config, own: OwnData) -> Config:
    """Change a config for data of one's own, and log what follows from it.

    Args:
        cfg (Config): Config; changed in place.
        own (OwnData): The options.

    Returns:
        Config: ``cfg``.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder has another layout than the config needs, or an option does not fit the config.
    """
    if all(getattr(own, field.name) is None for field in fields(own)):
        return cfg
    lines, images = [], None
    if own.data_root is not None:
        images, lines = _use_root(cfg, Path(own.data_root), own)
    elif own.val_fraction is not None:
        raise ValueError('--val-fraction needs --data-root')
    if own.image_size is not None:
        change = set_short_side if is_detector(cfg) else set_image_size
        lines += change(cfg, own.image_size)
    lines += set_batch_size(cfg, own.batch_size, images)
    if own.epochs is not None:
        lines += set_epochs(cfg, own.epochs)
    lines += fit_to_set(cfg, images)
    for line in lines:
        print_log(f'own data: {line}', 'current')
    return cfg


def _use_root(cfg: Config, root: Path, own: OwnData) -> tuple[int, list[str]]:
    """Let the data sets read a folder; return the number of images to train on, and what was derived."""
    if not root.is_dir():
        raise FileNotFoundError(f'--data-root {root} is no folder here, {Path.cwd()}')
    cfg.data_root = str(root)  # or else the dumped config would name two folders, see apply_own_root
    kind = find_class(cfg.model.type, cfg.get('default_scope'))
    labelled = not (is_detector(cfg) or issubclass(kind or object, BaseSelfSupervisor))
    if own.val_fraction is not None and not labelled:
        raise ValueError('--val-fraction is for classes in folders; this config needs none')
    if labelled:
        return use_labelled(cfg, root, own.val_fraction)
    return use_detection_set(cfg, root) if is_detector(cfg) else use_unlabelled(cfg, root)
