"""Look at the data before a training starts."""

import logging

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from us3l_mm.datasets.check import check_data
from us3l_mm.registry import HOOKS
from us3l_mm.slim import check_count


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Stop a training whose images cannot be read, or whose boxes or labels cannot be used; warn of all else.

    It looks at the data sets that the Runner has built, on the first process only, as
    :func:`us3l_mm.datasets.check.check_data` says. ``tools/train.py`` adds it unless ``--no-check`` is given.

    Args:
        sample (int): How many images of each split are decoded; 0 means all. Defaults to 64.

    Raises:
        TypeError or ValueError: If it is no such number.
    """

    def __init__(self, sample: int = 64) -> None:
        self.sample = check_count('sample', sample, least=0)

    def before_run(self, runner: Runner) -> None:
        """Check the data of training and validation.

        Raises:
            ValueError: If there are errors.
        """
        errors: list[str | None] = [None]
        if is_main_process():
            datasets = dict(train=runner.train_dataloader.dataset)
            if runner.val_loop is not None:
                datasets['val'] = runner.val_dataloader.dataset
            _, found = check_data(datasets, self.sample)
            for finding in found:
                if finding.level == 'warning':
                    print_log(finding.text(), 'current', logging.WARNING)
            wrong = [finding.text() for finding in found if finding.level == 'error']
            if wrong:
                last = '`us3l check-data` lists all of it; --no-check trains without a look at the data'
                errors = ['\n'.join(['the data cannot be used:', *wrong, last])]
        broadcast_object_list(errors)
        if errors[0] is not None:
            raise ValueError(errors[0])
