"""Checkpoints that are whole at any time: the new one is there before an old one goes."""

import os
import re
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from us3l_mm.registry import HOOKS
from us3l_mm.utils.files import PART, write_text

from .work_dir import HINT, INTERRUPTED


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, but a checkpoint is deleted only after a newer one is written.

    The work dir may be moved or copied: ``last_checkpoint`` holds a path relative to it, and the best checkpoint is
    looked for in it. :class:`ResumableRunner` takes this hook in place of mmengine's, and writes its files.
    Arguments as for that hook; ``out_dir`` must be a local folder.
    """

    def before_train(self, runner: Runner) -> None:
        """Look up the folder, and remove what an interrupted run left half-written."""
        keep, self.max_keep_ckpts = self.max_keep_ckpts, -1  # mmengine would delete by what the checkpoint remembers
        super().before_train(runner)
        self.max_keep_ckpts = keep
        for key, path in self._best().items():
            self._set_best(key, None if path is None else self._path(Path(path).name))
        self._clean()

    def _path(self, name: str) -> str:
        return str(Path(self.out_dir, name))

    @master_only
    def _clean(self) -> None:
        for path in Path(self.out_dir).glob(f'*.pth{PART}'):
            path.unlink(missing_ok=True)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self.last_ckpt = self._path(self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        options = dict(save_optimizer=self.save_optimizer, save_param_scheduler=self.save_param_scheduler)
        self._save(runner, self.last_ckpt, meta=meta, by_epoch=self.by_epoch, **options, **self.args)
        self._delete_old(step)

    def save_interrupted(self, runner: Runner, iterations: int) -> str:
        """Write a checkpoint after so many iterations, apart from the regular ones; return its path."""
        path = self._path(INTERRUPTED)
        self._save(runner, path, meta=dict(epoch=runner.epoch, iter=iterations), by_epoch=False)
        return path

    @master_only
    def _save(self, runner: Runner, path: str, **options) -> None:
        runner.save_checkpoint(str(Path(path).parent), Path(path).name, **options)
        write_text(Path(runner.work_dir, HINT), os.path.relpath(path, runner.work_dir))

    @master_only
    def _delete_old(self, step: int) -> None:
        """Delete regular checkpoints before ``step`` beyond the newest, and one of an interruption."""
        Path(self._path(INTERRUPTED)).unlink(missing_ok=True)
        if self.max_keep_ckpts <= 0:
            return
        name = re.compile(re.escape(self.filename_tmpl).replace(r'\{\}', r'(\d+)'))
        found = {int(match[1]): path for path in Path(self.out_dir).iterdir() if (match := name.fullmatch(path.name))}
        for number in sorted(number for number in found if number <= step)[: -self.max_keep_ckpts]:
            found[number].unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        old = self._best()
        for key in old:
            self._set_best(key, None)  # mmengine deletes what stands here before it writes
        # mmengine would write the last checkpoint again, now as one after the validation, to remember the best score.
        # A resumed run begins with the validation instead.
        last, self.last_ckpt = self.last_ckpt, None
        super()._save_best_checkpoint(runner, metrics)
        self.last_ckpt = last
        for key, path in old.items():
            new = self._best()[key]
            if new is None:
                self._set_best(key, path)
            elif path not in (None, new) and runner.rank == 0:
                Path(path).unlink(missing_ok=True)

    def _best(self) -> dict[str, str | None]:
        """Paths of the best checkpoints, by metric."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {self.key_indicators[0]: self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, key: str, path: str | None) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[key] = path
