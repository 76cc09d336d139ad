"""Training loops that go on at any iteration, with the batch that comes next.

mmengine's loop over epochs starts an interrupted epoch again; its loop over iterations loads and throws away all
images up to the place.
"""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from us3l_mm.registry import LOOPS

from .quiet_worker import quieten
from .seeded_batches import SeededBatchSampler, seed_process


class ResumableLoop:
    """What both loops share: batches from an iteration on, and random draws that depend on the iteration alone.

    All checkpoints at a validation are written before its end. So a training that goes on there begins with it.
    """

    endless = False
    runner: Runner
    dataloader: DataLoader
    _iter: int

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args, **kwargs) -> None:
        super().__init__(runner, self._with_seeds(dataloader), *args, **kwargs)
        quieten(self.dataloader)
        if not len(self.dataloader):
            raise ValueError(
                f'nothing to train on: the {len(self.dataloader.dataset)} images of the data set make no batch; make '
                'batch_size smaller, or set drop_last=False in train_dataloader'
            )

    def _with_seeds(self, dataloader: DataLoader | dict) -> DataLoader | dict:
        """Put :class:`SeededBatchSampler` into the config of a data loader."""
        if not isinstance(dataloader, dict):
            return dataloader
        batches = dict(type=SeededBatchSampler, batch_sampler=dataloader.get('batch_sampler'), endless=self.endless)
        if dataloader.get('batch_sampler') is None:
            batches['drop_last'] = dataloader.get('drop_last', False)
        return {**{key: dataloader[key] for key in dataloader if key != 'drop_last'}, 'batch_sampler': batches}

    def _start(self, first: int, skip: int) -> None:
        """Start the batches of a pass, see :meth:`SeededBatchSampler.start`.

        Raises:
            ValueError: If batches have to be skipped, which a data loader that was built elsewhere cannot do.
        """
        seed_process(self.runner.seed, self.runner.rank, first, 'pass')
        batches = self.dataloader.batch_sampler
        if isinstance(batches, SeededBatchSampler):
            batches.start((self.runner.seed, self.runner.rank), first, skip)
        elif skip:
            raise ValueError(
                f'the checkpoint is {skip} batches into an epoch, where only a train_dataloader that is given as a '
                'config can go on; resume from the checkpoint of an epoch'
            )

    def _validate(self, done: int, last: int) -> None:
        """Validate if it is due after ``done`` epochs or iterations of ``last``."""
        self._decide_current_val_interval()
        due = done > 0 and (done % self.val_interval == 0 or done == last)
        if due and self.runner.val_loop is not None and done >= self.val_begin:
            self.runner.val_loop.run()

    def run_iter(self, *args: Any) -> None:
        """Run one iteration."""
        seed_process(self.runner.seed, self.runner.rank, self._iter, 'model')
        super().run_iter(*args)


@LOOPS.register_module()
class ResumableEpochLoop(ResumableLoop, EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``, which also goes on in the middle of an epoch.

    Raises:
        ValueError: If an epoch has no batch.
    """

    def run(self) -> Any:
        """Train to the last epoch."""
        self.runner.call_hook('before_train')
        if self._iter == self._epoch * len(self.dataloader):
            self._validate(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it."""
        first = self._epoch * len(self.dataloader)
        done = self._iter - first
        self._start(first, done)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(self.dataloader, done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop``, which resumes without loading the images of the past.

    Raises:
        ValueError: If a pass over the data has no batch.
    """

    endless = True

    def run(self) -> Any:
        """Train to the last iteration."""
        self.dataloader_iterator = None  # ends the workers of mmengine's, which started at the first image
        self._start(0, self._iter)
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._validate(self._iter, self._max_iters)
        batches = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._validate(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model
