"""US3L for OpenMMLab: pretrain once without labels, run at every width."""

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


def _installed(names: tuple[str, ...]) -> str | None:
    """Return the version of the first distribution in ``names`` that is installed, or None."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _check_versions() -> None:
    """Raise ImportError, with the fix, unless the OpenMMLab packages are installed in versions that work."""
    for names, lowest, too_high, fix in _SUPPORTED:
        found = _installed(names)
        if found is None and names == _OPTIONAL:
            continue
        if found is None or not Version(lowest) <= Version(found) < Version(too_high):
            got = 'it is not installed' if found is None else f'found {found}'
            raise ImportError(
                f'us3l_mm needs {" or ".join(names)} >={lowest}, <{too_high}, but {got}. Fix: pip install {fix}'
            )


_check_versions()

from .compat import setup  # noqa: E402

setup()  # before anything imports mmcv.ops

__all__ = ['__version__']
