"""Models that need no mmdet; :mod:`us3l_mm.registry` knows the others."""

from . import layers  # noqa: F401  the backbones below name them in conv_cfg and norm_cfg
from .algorithms import *  # noqa: F403
from .backbones import *  # noqa: F403
from .classifiers import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .multi_width import *  # noqa: F403
from .necks import *  # noqa: F403
