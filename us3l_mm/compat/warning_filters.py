"""Hide deprecation warnings of OpenMMLab's own code that a user can do nothing about.

mmengine's AmpOptimWrapper and mmdet's layers use ``torch.cuda.amp``, deprecated since PyTorch 2.4; mmengine uses
``pkgutil.find_loader``, deprecated since Python 3.12. The same warnings about user code stay visible.

Obsolete with versions of mmengine and mmdet that use neither: none yet (mmengine 0.10.7, mmdet 3.3.0).
"""

import warnings

_UPSTREAM = r'(mmengine|mmcv|mmdet|mmpretrain)(\.|$)'
_HIDDEN = (
    (r'`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated', FutureWarning),
    (r"'pkgutil\.find_loader' is deprecated", DeprecationWarning),
)


def apply() -> bool:
    """Add the filters."""
    for message, category in _HIDDEN:
        warnings.filterwarnings('ignore', message=message, category=category, module=_UPSTREAM)
    return True
