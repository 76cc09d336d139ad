"""What modern PyTorch, NumPy and Python need from the OpenMMLab stack, one file a topic.

Only the package's own ``__init__`` imports this module. Nothing here imports mmdet, mmpretrain or
``mmcv.ops``.
"""

import functools

from . import checkpoint, mmcv_ops, numpy2, package_lookup, warning_filters

__all__ = ['setup']


@functools.cache
def setup() -> None:
    """Apply every topic once; later calls do nothing.

    Call it before anything imports ``mmcv.ops``, mmdet or mmpretrain: mmcv binds its compiled operators at
    import.
    """
    for topic in (warning_filters, mmcv_ops, numpy2, package_lookup, checkpoint):
        topic.apply()
