"""See while a training runs whether every width learns."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.registry import DATASETS
from mmengine.runner import EpochBasedTrainLoop, Runner

from us3l_mm.models.multi_width import MultiWidthTraining
from us3l_mm.registry import HOOKS
from us3l_mm.slim import SlimmableLayer, check_count, check_dict, check_widths, width_label
from us3l_mm.utils.files import write_text
from us3l_mm.utils.sealed import seal, unseal
from us3l_mm.utils.tables import markdown_table

from .monitor import measure_widths
from .monitor_images import MonitorImages
from .verdict import COLLAPSED

MONITOR = 'monitor.json'
_LOWEST_RANK = 5.0  # below it, or COLLAPSED for feature_std, a network has collapsed; see docs/evaluation.md


@HOOKS.register_module()
class MonitorHook(Hook):
    """Measure a copy of the network at several widths after every few epochs, and warn of a collapse.

    Each time it logs, by width, what :func:`measure_widths` finds, and sends it to all backends of the visualizer as
    ``monitor/<metric>_w<width>`` with the epoch as the step. ``monitor.json`` in the work dir names the best checkpoint
    that is kept, by RankMe and, with labels, by k-NN, both at the widest width, and has all warnings. The first process
    measures, the others wait in their next exchange. Weights, batch norms and random draws of the training stay as
    they are, bit by bit.

    Args:
        interval (int): Epochs between two measurements; there is also one before the first epoch and one after the
            last. Defaults to 10.
        widths (Sequence[float], optional): Widths. Defaults to None: those that are trained, or of a range the highest,
            half of it and the lowest.
        num_images (int): Training images for what needs no labels; twice as many labelled ones. Defaults to 1000.
        dataset (dict, optional): Labelled data set with a pipeline as for tests. Defaults to None: no accuracies.
        seed (int): Seed of the draw of images. Defaults to 0.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If one is out of its range.
    """

    priority = 'LOWEST'  # after the checkpoint, which it names

    def __init__(
        self,
        interval: int = 10,
        widths: Sequence[float] | None = None,
        num_images: int = 1000,
        dataset: dict | None = None,
        seed: int = 0,
    ) -> None:
        self.interval = check_count('interval', interval)
        self.widths = None if widths is None else check_widths('widths', widths)
        self.num_images = check_count('num_images', num_images, least=2)
        self.dataset = None if dataset is None else check_dict('dataset', dataset, 'type')
        self.seed = check_count('seed', seed, least=0)

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Draw the images; measure what a resumed run has not measured yet, or the network as it starts.

        Raises:
            TypeError: If training goes by iterations.
        """
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise TypeError('us3l_mm.MonitorHook counts epochs: set by_epoch=True in train_cfg, or leave the hook out')
        loader, self._labelled = runner.train_dataloader, None
        of = dict(seed=self.seed, workers=loader.num_workers)
        self._unlabelled = MonitorImages(loader.dataset, self.num_images, collate=loader.collate_fn, **of)
        if self.dataset is not None:
            self._labelled = MonitorImages(DATASETS.build(self.dataset), 2 * self.num_images, **of)
            self._labelled.labels()  # raises here rather than after epochs
        known = runner.message_hub.get_info('monitor')  # of a resumed run
        self._history = [] if known is None else unseal(known, 'message_hub.runtime_info.monitor')
        measured = [entry['epoch'] for entry in self._history]
        whole = runner.iter == runner.epoch * len(loader)  # a checkpoint of an interruption is within an epoch
        if whole and self._due(runner, runner.epoch) and runner.epoch not in measured:
            self._measure(runner, runner.epoch)

    @master_only
    def after_train_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Measure, if it is time to."""
        if self._due(runner, runner.epoch + 1):
            self._measure(runner, runner.epoch + 1)

    def _due(self, runner: Runner, epoch: int) -> bool:
        return epoch % self.interval == 0 or epoch == runner.max_epochs

    def _measure(self, runner: Runner, epoch: int) -> None:
        """Measure after so many epochs; log and write what is found."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        widths = trained_widths(model) if self.widths is None or not _slims(model) else self.widths
        found = measure_widths(model, widths, self._unlabelled, self._labelled)
        scalars = {f'monitor/{name}_w{width_label(w)}': x for w, values in found.items() for name, x in values.items()}
        runner.visualizer.add_scalars(scalars, step=epoch)
        warnings = [] if epoch == 0 else _collapses(found, self._narrowest(runner, model, epoch))
        entry = dict(epoch=epoch, checkpoint=_checkpoint(runner, epoch), width=widths[0], warnings=warnings)
        self._history.append(dict(entry, **found[widths[0]]))
        runner.message_hub.update_info('monitor', seal(self._history))
        report = _report(self._history, Path(runner.work_dir))
        write_text(Path(runner.work_dir, MONITOR), json.dumps(report, indent=2) + '\n')
        runner.logger.info(f'monitor after epoch {epoch}:\n{_table(found)}')
        for text in warnings:
            runner.logger.warning(f'epoch {epoch}: {text}')
        for name, best in report['best'].items():
            runner.logger.info(f'best checkpoint by {name} so far: {best["checkpoint"]} ({best["value"]:.4g})')

    def _narrowest(self, runner: Runner, model: BaseModel, epoch: int) -> float:
        """Narrowest width of the last of so many epochs; those below may not be trained yet."""
        if not isinstance(model, MultiWidthTraining):
            return 0.0
        last = runner.iter - 1
        clock = (epoch - 1, runner.max_epochs) if model.by_epoch else (last, runner.max_iters)
        return model.sampler(last, *clock)[-1]


def trained_widths(model: BaseModel) -> list[float]:
    """Widths that stand for all that a model trains: its list or, of a range, the highest, half of it and the lowest.

    Args:
        model (BaseModel): Model with a ``backbone``. If that has one width only, the list has that.
    """
    if not isinstance(model, MultiWidthTraining) or not _slims(model):
        width = getattr(model.backbone, 'width', None)
        return [width if isinstance(width, float) else 1.0]
    listed, (low, high) = getattr(model.sampler, 'widths', None), model.sampler.width_range
    return sorted(listed or {high, max(low, high / 2), low}, reverse=True)


def _slims(model: BaseModel) -> bool:
    return any(isinstance(layer, SlimmableLayer) for layer in model.backbone.modules())


def _checkpoint(runner: Runner, epoch: int) -> str | None:
    """Path of the checkpoint of an epoch, from the work dir; None if there is none."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.by_epoch:
            path = Path(hook.out_dir, hook.filename_tmpl.format(epoch))
            return os.path.relpath(path, runner.work_dir) if path.is_file() else None
    return None


def _collapses(found: dict[float, dict[str, float]], narrowest: float) -> list[str]:
    """Say which of the widths that are trained have collapsed."""
    texts = []
    for width, values in found.items():
        if width < narrowest - 1e-9:
            continue
        what = 'its features are not finite'
        if values:
            std, rank = values['feature_std'], values['rankme']
            if std >= COLLAPSED and rank >= _LOWEST_RANK:
                continue
            what = f'feature_std is {std:.3g} (healthy: near 1), RankMe {rank:.3g} (collapsed: 1)'
        fix = 'lower the learning rate; see docs/evaluation.md, While it trains'
        texts.append(f'width {width_label(width)} has collapsed: {what}; {fix}')
    return texts


def _report(history: list[dict[str, Any]], work_dir: Path) -> dict[str, Any]:
    """What ``monitor.json`` holds: the best checkpoint that is there by each criterion, and all warnings."""
    kept = [entry for entry in history if entry['checkpoint'] and Path(work_dir, entry['checkpoint']).is_file()]
    best = {}
    for name in ('rankme', 'knn'):
        entry = max((entry for entry in kept if name in entry), key=lambda entry: entry[name], default=None)
        if entry is not None:
            best[name] = dict({key: entry[key] for key in ('epoch', 'width', 'checkpoint')}, value=entry[name])
    texts = [dict(epoch=entry['epoch'], text=text) for entry in history for text in entry['warnings']]
    return dict(best=best, warnings=texts)


def _table(found: dict[float, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = [
        [width_label(width), *(f'{values[name]:.4g}' if name in values else None for name in names)]
        for width, values in found.items()
    ]
    return markdown_table(['width', *names], rows)
