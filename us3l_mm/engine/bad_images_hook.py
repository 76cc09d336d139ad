"""Tell at the end of a training which images were skipped."""

import os.path as osp
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from us3l_mm.datasets import find_loaders
from us3l_mm.registry import HOOKS
from us3l_mm.utils.files import write_text


@HOOKS.register_module()
class BadImagesHook(Hook):
    """List the images that :class:`~us3l_mm.datasets.LoadImageFromFile` skipped, of all workers and processes.

    They are written to ``bad_images.txt`` in the work folder, one error a line, and a warning counts them. The list
    begins anew where a run is resumed.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse to skip images of the validation.

        Raises:
            ValueError: See :meth:`before_val_epoch`.
        """
        if runner.val_loop is not None:
            self.before_val_epoch(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Refuse to skip images of the validation.

        Raises:
            ValueError: If its pipeline has ``on_bad_image='skip'``.
        """
        _refuse_skipping('val_dataloader', runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Refuse to skip images of the test.

        Raises:
            ValueError: If its pipeline has ``on_bad_image='skip'``.
        """
        _refuse_skipping('test_dataloader', runner.test_dataloader.dataset)

    def after_train(self, runner: Runner) -> None:
        """Write the list."""
        loaders = list(find_loaders(runner.train_dataloader.dataset))
        found: dict[str, str] = {}
        for part in all_gather_object([loader.bad_images() for loader in loaders]):
            for errors in part:
                found.update(errors)
        for loader in loaders:
            Path(loader.list_file).unlink(missing_ok=True)
        if found and is_main_process():
            path = osp.join(runner.work_dir, 'bad_images.txt')
            write_text(Path(path), ''.join(f'{error}\n' for error in found.values()))
            runner.logger.warning(f'{len(found)} bad images were skipped; {path} lists them')


def _refuse_skipping(name: str, dataset: Any) -> None:
    if any(loader.on_bad_image == 'skip' for loader in find_loaders(dataset)):
        raise ValueError(
            f"{name} has on_bad_image='skip' in its pipeline: other images would be measured in the place of bad ones. "
            "Set 'stop' there; 'skip' is for training"
        )
