"""Backbones of mmdet that need nothing but slimmable layers to run at any width."""

import mmpretrain.models
from mmdet.models import Darknet, HRNet
from torch import Tensor

from us3l_mm.registry import MODELS
from us3l_mm.slim import check_dict

from .base import SlimmableBackboneMixin


@MODELS.register_module()
class SlimmableHRNet(SlimmableBackboneMixin, HRNet):
    """mmdet's HRNet (mmpretrain's builds its first blocks without ``conv_cfg``; the keys are the same).

    Args:
        extra (dict, optional): The four stages, as for mmdet's.
        arch (str, optional): ``'w18'`` to ``'w64'`` in place of ``extra``, as for mmpretrain's, whose default of
            ``norm_eval``, False, then holds.
        **kwargs: As for :class:`mmdet.models.HRNet` and :class:`SlimmableBackboneMixin`; pretraining needs
            ``norm_eval=False``.

    Raises:
        TypeError: If ``extra`` is no dict.
        ValueError: If a stage is missing, not exactly one of ``extra`` and ``arch`` is given, or ``arch`` is unknown.

    Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020.
    """

    def __init__(self, extra: dict | None = None, arch: str | None = None, **kwargs) -> None:
        sizes = mmpretrain.models.HRNet.arch_zoo
        if (extra is None) == (arch is None) or (arch is not None and arch not in sizes):
            raise ValueError(f'HRNet needs either extra or an arch of {list(sizes)}, got extra={extra}, arch={arch!r}')
        if arch is not None:
            names = ('num_modules', 'num_branches', 'block', 'num_blocks', 'num_channels')
            extra = {f'stage{i}': dict(zip(names, stage)) for i, stage in enumerate(sizes[arch], start=1)}
            kwargs = dict(norm_eval=False) | kwargs
        check_dict('extra', extra, *(f'stage{i}' for i in range(1, 5)))
        super().__init__(extra=extra, **kwargs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, 3, H, W) to the features of each resolution, a tuple as mmpretrain's necks need it."""
        return tuple(super().forward(x))


@MODELS.register_module()
class SlimmableDarknet(SlimmableBackboneMixin, Darknet):
    """mmdet's Darknet-53, YOLOv3's backbone.

    Args:
        **kwargs: As for :class:`mmdet.models.Darknet` and :class:`SlimmableBackboneMixin`; pretraining needs
            ``norm_eval=False``.

    Source: Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018.
    """
