"""One iteration over several widths."""

from .ddp import US3LDistributedDataParallel
from .group_reg import GroupRegularizer
from .iteration import Iteration, MicroBatch
from .training import MultiWidthTraining

__all__ = ['GroupRegularizer', 'Iteration', 'MultiWidthTraining', 'MicroBatch', 'US3LDistributedDataParallel']
