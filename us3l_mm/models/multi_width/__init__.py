"""One iteration over several widths."""

from .ddp import US3LDistributedDataParallel
from .group_reg import GroupRegularizer
from .training import Iteration, MultiWidthTraining, Part

__all__ = ['GroupRegularizer', 'Iteration', 'MultiWidthTraining', 'Part', 'US3LDistributedDataParallel']
