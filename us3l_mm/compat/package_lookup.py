"""Make mmengine find installed packages without ``pkg_resources``.

For ``_base_ = 'mmdet::...'`` mmengine looks up the folder of mmdet with ``pkg_resources``, which warns of its removal
and is gone from setuptools 82. (On Python >= 3.12 mmengine still needs setuptools: the environment report of a Runner
imports distutils.)

Obsolete with an mmengine that uses ``importlib.metadata``: none yet (mmengine 0.10.7).
"""

import importlib
import importlib.metadata
import importlib.util
import os


def _find_spec(package: str):
    """Find the module spec of a package by its distribution or module name; None if there is none."""
    module = package
    try:
        # The module of a distribution may have another name: mmcv-lite installs mmcv.
        top_level = importlib.metadata.distribution(package).read_text('top_level.txt')
        module = top_level.split()[0] if top_level else package.replace('-', '_')
    except importlib.metadata.PackageNotFoundError:
        pass
    return importlib.util.find_spec(module)


def is_installed(package: str) -> bool:
    """Whether a package is installed, by its distribution or module name."""
    spec = _find_spec(package)
    return spec is not None and spec.origin is not None


def get_installed_path(package: str) -> str:
    """Return the folder of an installed package.

    Args:
        package: Distribution or module name.

    Raises:
        ModuleNotFoundError: If the package is not installed, or is a namespace package without a folder of its own.
    """
    spec = _find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f'no package {package!r} with a folder of its own is installed; install it')
    return os.path.dirname(spec.origin)


def apply() -> bool:
    """Replace mmengine's two look-up functions under each of their names."""
    for name in (
        'mmengine.utils.package_utils',
        'mmengine.utils',
        'mmengine.config.config',
        'mmengine.hub.hub',
    ):
        module = importlib.import_module(name)
        module.get_installed_path = get_installed_path
        if hasattr(module, 'is_installed'):
            module.is_installed = is_installed
    return True
