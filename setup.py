"""Builds us3l_mm. The lists of requirements live in requirements/, one file a purpose."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version in us3l_mm/version.py, read without importing the package."""
    return re.search(r"__version__ = '([^']+)'", (ROOT / 'us3l_mm/version.py').read_text())[1]


def requirements(name: str) -> list[str]:
    """The requirements in requirements/NAME.txt, without comments and blank lines."""
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    return [line for line in (re.sub(r'(^|\s+)#.*', '', line).strip() for line in lines) if line]


class BuildWithConfigs(build_py):
    """Puts configs/ and tools/ into us3l_mm/.mim of a wheel, where OpenMMLab's tools look for them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the repository itself is used, and has them
            return
        mim = Path(self.build_lib, 'us3l_mm', '.mim')
        skip = shutil.ignore_patterns('__pycache__', 'dev')
        for folder in ('configs', 'tools'):
            if (ROOT / folder).is_dir():
                shutil.copytree(ROOT / folder, mim / folder, ignore=skip, dirs_exist_ok=True)
        if (ROOT / 'model-index.yml').is_file():
            shutil.copy2(ROOT / 'model-index.yml', mim)


readme = ROOT / 'README.md'
setup(
    name='us3l_mm',
    version=version(),
    description='US3L for OpenMMLab: pretrain once without labels, run at every width',
    long_description=readme.read_text(encoding='utf-8') if readme.is_file() else '',
    long_description_content_type='text/markdown',
    author='us3l_mm authors',
    license='Apache-2.0',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['us3l_mm', 'us3l_mm.*']),
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={
        name: requirements(name) for name in ('detection', 'mminstall', 'tests', 'demo', 'docs', 'onnx', 'lmdb')
    },
    zip_safe=False,
)
