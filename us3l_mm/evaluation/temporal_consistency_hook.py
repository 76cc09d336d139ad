"""Measure during a training how much targets and gradients change from one iteration to the next."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from us3l_mm.registry import HOOKS
from us3l_mm.slim import check_count, check_widths
from us3l_mm.utils.files import write_text

from .temporal_record import FILE, compare, describe, read_run, report
from .width_embeddings import Guided, check_guided, guidance, probe_views, undisturbed


@HOOKS.register_module()
class TemporalConsistencyHook(Hook):
    """Measure :func:`us3l_mm.evaluation.temporal_consistency` between weights before and after an iteration.

    A fixed batch of training images, in the same two views, is embedded at several widths before and after every n-th
    iteration, in float32. The training does not notice: its weights are the same to the bit as without the hook. The
    log gets ``temporal/target_w0.5`` and ``temporal/gradient_w0.5``, and ``insight/temporal_consistency.json`` in the
    work dir everything; ``tools/analysis_tools/temporal_consistency.py`` makes a picture of it.

    Args:
        interval (int, optional): Iterations from one measurement to the next. Defaults to None: 200 measurements over
            the training.
        widths (Sequence[float]): Widths. Defaults to (1.0, 0.75, 0.5, 0.25).
        num_images (int): Images of the batch, at least 2. Defaults to 64.

    Raises:
        TypeError: If an option is of the wrong type, or the model, when training starts, no :class:`US3L`.
        ValueError: If an option is out of its range.
    """

    def __init__(
        self, interval: int | None = None, widths: Sequence[float] = (1.0, 0.75, 0.5, 0.25), num_images: int = 64
    ) -> None:
        self.interval = None if interval is None else check_count('interval', interval)
        self.widths = check_widths('widths', widths)
        self.num_images = check_count('num_images', num_images, least=2)
        self._before: dict[float, Guided] | None = None

    def before_train(self, runner: Runner) -> None:
        """Load the images, and what a resumed run measured so far."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_guided(self._model, self.widths)
        loader = runner.train_dataloader
        with undisturbed(self._model):
            self._views = probe_views(loader.dataset, loader.collate_fn, self._model.data_preprocessor, self.num_images)
        self._every = self.interval or max(1, runner.max_iters // 200)
        work_dir = Path(runner.work_dir)
        known = read_run(work_dir)['points'] if runner.iter and (work_dir / FILE).is_file() else []
        self._points = [point for point in known if point['iteration'] <= runner.iter]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Embed before the update."""
        if runner.iter % self._every == 0:
            self._before = self._embed()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Embed after the update, compare, log and write."""
        if self._before is None:
            return
        rows, self._before = compare(self._before, self._embed()), None
        self._points.append(dict(iteration=runner.iter + 1, rows=rows))
        logs = {f'temporal/target_w{row["width"]:g}': row['target'] for row in rows}
        logs |= {f'temporal/gradient_w{row["width"]:g}': row['own'] for row in rows}
        runner.visualizer.add_scalars(logs, step=runner.iter + 1)
        if is_main_process():
            run = dict(name=Path(runner.work_dir).name, what=describe(self._model), points=self._points)
            command = f'us3l temporal-consistency --runs {runner.work_dir}'
            write_text(Path(runner.work_dir) / FILE, json.dumps(report([run], command)) + '\n')

    def _embed(self) -> dict[float, Guided]:
        with undisturbed(self._model):
            return guidance(self._model, self._views, self.widths)
