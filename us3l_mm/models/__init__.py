"""Models of the scope us3l_mm."""

from . import layers  # noqa: F401  the backbones below name them in conv_cfg and norm_cfg
from .algorithms import *  # noqa: F403
from .backbones import *  # noqa: F403
from .classifiers import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .ddp import US3LDistributedDataParallel
from .detectors import *  # noqa: F403
from .group_reg import GroupRegularizer
from .heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .teacher import MomentumTeacher

__all__ = ['GroupRegularizer', 'MomentumTeacher', 'US3LDistributedDataParallel']
