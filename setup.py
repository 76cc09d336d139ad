"""Builds us3l_mm. The lists of requirements live in requirements/, one file a purpose."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version in us3l_mm/version.py, read without importing the package."""
    return re.search(r"__version__ = '([^']+)'", (ROOT / 'us3l_mm/version.py').read_text())[1]


def requirements(name: str) -> list[str]:
    """The requirements in requirements/NAME.txt, without comments and blank lines."""
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    return [line for line in (re.sub(r'(^|\s+)#.*', '', line).strip() for line in lines) if line]


# us3l_mm/.mim, where OpenMMLab's tools look for these, has links to them; a wheel gets what the links lead to.
SHIPPED = ['model-index.yml', 'configs/**/*.py', 'configs/**/*.yml', 'configs/**/*.md']
SHIPPED += ['tools/us3l', 'tools/**/*.py', 'tools/**/*.sh', 'tools/**/*.md']

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
        'Environment :: Console',
        'Environment :: GPU :: NVIDIA CUDA',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    packages=find_packages(include=['us3l_mm', 'us3l_mm.*']),
    package_data={'us3l_mm': ['visualization/play/page.html', *(f'.mim/{pattern}' for pattern in SHIPPED)]},
    exclude_package_data={'us3l_mm': ['.mim/tools/dev/*']},
    scripts=['tools/us3l'],
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={
        name: requirements(name) for name in ('detection', 'mminstall', 'tests', 'demo', 'docs', 'onnx', 'lmdb')
    },
    zip_safe=False,
)
