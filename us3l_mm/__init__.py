"""US3L for OpenMMLab: pretrain once without labels, run at every width."""

import sys
from importlib import metadata

from packaging.version import Version

from .version import __version__

# Package under its possible names, first version that works, first that does not, what to install.
_SUPPORTED = (
    (('mmengine',), '0.10.0', '1.0.0', 'mmengine==0.10.7'),
    (('mmcv', 'mmcv-lite'), '2.0.1', '2.2.0', 'mmcv-lite==2.1.0 (or mmcv==2.1.0, which compiles)'),
    (('mmpretrain',), '1.2.0', '2.0.0', 'mmpretrain==1.2.0'),
    (('mmdet',), '3.3.0', '4.0.0', 'mmdet==3.3.0'),
)
_OPTIONAL = ('mmdet',)  # for detection alone
# The same of maintained forks, which install the same modules; lowest are those that were tried.
_FORKS = (
    (('onedl-mmengine',), '0.10.12', '1.0.0', '--no-deps onedl-mmengine==0.10.12'),
    (('onedl-mmcv',), '2.3.6', '3.0.0', '--no-deps onedl-mmcv==2.3.6'),
    (('onedl-mmpretrain',), '1.3.6', '2.0.0', '--no-deps onedl-mmpretrain==1.3.6'),
    (('onedl-mmdetection',), '3.5.1', '4.0.0', '--no-deps onedl-mmdetection==3.5.1'),
)


def _installed(names: tuple[str, ...]) -> str | None:
    """Return the version of the first distribution in ``names`` that is installed, or None."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def version_faults() -> list[str]:
    """Say which OpenMMLab packages are missing or have a version that does not work, each with the fix."""
    faults = []
    for original, fork in zip(_SUPPORTED, _FORKS):
        names, lowest, too_high, fix = original if _installed(fork[0]) is None else fork
        found = _installed(names)
        if found is None and names == _OPTIONAL:
            continue
        if found is None or not Version(lowest) <= Version(found) < Version(too_high):
            got = 'it is not installed' if found is None else f'found {found}'
            faults.append(
                f'us3l_mm needs {" or ".join(names)} >={lowest}, <{too_high}, but {got}. Fix: pip install {fix}'
            )
    return faults


def prepare() -> dict[str, bool]:
    """Check the versions of the OpenMMLab packages and make them work together, which importing this package does.

    Returns:
        dict[str, bool]: For each topic of :mod:`us3l_mm.compat`, whether it is needed here and in force.

    Raises:
        ImportError: If a package is missing or has a version that does not work; says the fix.
    """
    faults = version_faults()
    if faults:
        raise ImportError('\n'.join(faults))
    from .compat import setup  # before anything imports mmcv.ops

    return setup()


# `python -m us3l_mm.diagnose`, for which Python imports this file first, reports what is wrong and goes on.
if not (sys.argv[:1] == ['-m'] and 'us3l_mm.diagnose' in sys.orig_argv):
    prepare()

__all__ = ['__version__', 'prepare', 'version_faults']
