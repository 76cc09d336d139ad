"""Make the OpenMMLab packages work with current PyTorch, NumPy and Python, one file a topic.

Each file says which upstream change makes it obsolete. Only ``us3l_mm`` itself imports this package. Nothing here
imports mmdet, the models or data sets of mmpretrain, or ``mmcv.ops``.
"""

import functools

from . import (
    checkpoint,
    mmcv_ops,
    multimodal,
    numpy2,
    package_lookup,
    pickles,
    shipped_configs,
    torch_version,
    warning_filters,
)

__all__ = ['setup']


@functools.cache
def setup() -> dict[str, bool]:
    """Apply every topic, and return for each whether it was needed; later calls do nothing else.

    Call it before anything imports ``mmcv.ops``, mmdet or mmpretrain: mmcv looks up its compiled operators when it is
    imported.
    """
    topics = (
        warning_filters,
        torch_version,
        mmcv_ops,
        numpy2,
        package_lookup,
        checkpoint,
        pickles,
        multimodal,
        shipped_configs,
    )
    return {topic.__name__.rpartition('.')[2]: topic.apply() for topic in topics}
