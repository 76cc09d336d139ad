"""Make ``mmcv.ops`` work with mmcv-lite, which lacks the compiled module ``mmcv._ext``.

mmdet imports ``mmcv.ops``, which asserts that every compiled operator exists. Full mmcv 2.1.0 has no wheel for current
PyTorch and takes long to compile. If the compiled module is missing, a module with the operators of
:mod:`us3l_mm.compat.ops` takes its place; full mmcv is left alone.

Obsolete once mmcv ships wheels for current PyTorch: none yet (mmcv 2.2.0).
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from . import ops

NAME = 'mmcv._ext'
OPERATORS = (
    'nms',
    'roi_align_forward',
    'roi_align_backward',
    'sigmoid_focal_loss_forward',
    'sigmoid_focal_loss_backward',
)


class FallbackExt(ModuleType):
    """Replacement of ``mmcv._ext``: has the operators above, and a function that raises for any other name."""

    def __init__(self) -> None:
        super().__init__(NAME, __doc__)
        # Whoever looks for this module fails on one without a spec.
        self.__spec__ = importlib.machinery.ModuleSpec(NAME, None)
        for name in OPERATORS:
            setattr(self, name, getattr(ops, name))

    def __getattr__(self, name: str) -> Callable:
        # mmcv checks with hasattr that every operator exists. Only Python's own names (__path__) may be missing.
        if name.startswith('__'):
            raise AttributeError(f'module {NAME!r} has no attribute {name!r}')
        function = _missing_operator(name)
        setattr(self, name, function)
        return function

    @staticmethod
    def get_compiler_version() -> str:
        """Return the text for mmcv's environment report."""
        return 'n/a (mmcv-lite)'

    get_compiling_cuda_version = get_compiler_version


def _missing_operator(name: str) -> Callable:
    def operator(*args, **kwargs) -> NoReturn:
        raise NotImplementedError(
            f'the operator {name!r} needs full mmcv, got mmcv-lite without compiled operators. '
            'Fix: pip uninstall mmcv-lite, then pip install --no-build-isolation mmcv==2.1.0 (compiles)'
        )

    operator.__name__ = name
    return operator


def mmcv_full_available() -> bool:
    """Whether the compiled operators are there: no. mmengine's own finds the replacement, and its fork trusts that."""
    return False


def apply() -> bool:
    """Install the replacement if there is no ``mmcv._ext``."""
    if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
        return False
    import mmcv
    from mmengine.utils.dl_utils import misc

    mmcv._ext = sys.modules[NAME] = FallbackExt()
    original = misc.mmcv_full_available
    for module in list(sys.modules.values()):
        if getattr(module, '__dict__', {}).get('mmcv_full_available') is original:
            module.mmcv_full_available = mmcv_full_available
    return True
