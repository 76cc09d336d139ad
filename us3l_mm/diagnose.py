"""Print on one screen what a bug report needs, and what is wrong with this installation, with the fix.

python -m us3l_mm.diagnose

It goes on where ``import us3l_mm`` fails. It prints no environment but the variables named here, and ``~`` for the home
folder. The exit status is 1 if something is wrong.
"""

import importlib
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement

import us3l_mm

GIB = 2**30
LIBRARIES = ('numpy', 'opencv-python', 'opencv-python-headless', 'pillow', 'setuptools')
SAME_MODULE = (  # packages of which one can be installed; onedl- are forks
    ('mmengine', 'onedl-mmengine'),
    ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    ('mmpretrain', 'onedl-mmpretrain'),
    ('mmdet', 'onedl-mmdetection'),
)
OPENMMLAB = tuple(chain(*SAME_MODULE))
IMPORTED = ('torchvision', 'cv2')
IMPORTED_BY_US = ('mmpretrain.models', 'mmdet.models', 'us3l_mm.models')  # after compat
VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'US3L_ALLOW_PICKLE')
SHARED = '/dev/shm'


def first_line(error: Exception) -> str:
    """Name an error and the first line of its message."""
    return f'{type(error).__name__}: {next(iter(str(error).splitlines()), "")}'


def attempt(describe: Callable[[], str]) -> str:
    """Return a description, or the error that it ends in: the other lines are wanted all the same."""
    try:
        return describe()
    except Exception as error:
        return first_line(error)


def run(*command: str) -> str:
    """Return what a command prints.

    Raises:
        OSError: If there is no such command.
        RuntimeError: If it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f'{command[0]} fails: {" ".join((done.stdout + done.stderr).split())}')
    return done.stdout.strip()


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of some distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def listed(found: dict[str, object]) -> str:
    """Format names and values in a line."""
    return ', '.join(f'{name} {value}' for name, value in found.items())


# What is here


def describe_package() -> str:
    """Version of this package, and its commit if it is a checkout."""
    root = Path(us3l_mm.__file__).parents[1]
    if not (root / '.git').exists():
        return f'{us3l_mm.__version__} in {root}'
    commit = attempt(lambda: run('git', '-C', str(root), 'describe', '--always', '--dirty', '--exclude=*'))
    return f'{us3l_mm.__version__}, commit {commit}, in {root}'


def describe_system() -> str:
    """Operating system, CPUs that this process may use, and memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB
    return f'{platform.platform()}, {usable} of {os.cpu_count()} CPUs, {memory:.0f} GiB of memory'


def describe_torch() -> str:
    """PyTorch, and the CUDA and cuDNN that it was built with."""
    import torch

    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    built = f'built with CUDA {torch.version.cuda}, cuDNN {cudnn}'
    return f'torch {torch.__version__}, {listed(versions(("torchvision",)))}; {built}'


def describe_gpus() -> str:
    """GPUs that PyTorch finds, and the driver."""
    import torch

    if not torch.cuda.is_available():
        return 'none that PyTorch can use'
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ', '.join(f'{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)' for gpu in found)
    driver = attempt(lambda: run('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader').splitlines()[0])
    return f'{names}; driver {driver}'


def describe_compilers() -> str:
    """Compilers, which full mmcv needs, as a Runner logs them."""
    from mmengine.utils.dl_utils import collect_env

    found = collect_env()
    return '; '.join(f'{name}: {found[name]}' for name in ('GCC', 'NVCC') if name in found)


def describe_operators() -> str:
    """Where the operators of mmcv come from."""
    functions = vars(importlib.import_module('mmcv._ext'))
    ours = [name for name, value in functions.items() if getattr(value, '__module__', '') == 'us3l_mm.compat.ops']
    return f'by torchvision: {", ".join(ours)}; the others raise an error' if ours else 'all compiled, of full mmcv'


def describe_compat(topics: dict[str, bool]) -> str:
    """Topics of the compatibility layer that are in force, and those that are not needed."""
    on, off = ([name for name, needed in topics.items() if needed is wanted] for wanted in (True, False))
    return f'in force: {", ".join(on)}; not needed: {", ".join(off) or "none"}'


def describe_disks() -> str:
    """Free space here, for temporary files and in the shared memory of data loaders."""
    found = {'here': '.', 'for temporary files': tempfile.gettempdir(), f'in {SHARED}': SHARED}
    free = {name: shutil.disk_usage(path).free / GIB for name, path in found.items() if os.path.exists(path)}
    return 'free: ' + ', '.join(f'{amount:.1f} GiB {name}' for name, amount in free.items())


def describe_processes() -> str:
    """How processes are started, and the variables that set threads and devices."""
    import torch

    set_here = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    start = multiprocessing.get_context().get_start_method()
    return f'started by {start}; threads of torch: {torch.get_num_threads()}; {listed(set_here) or "no variable set"}'


# What is wrong with it


def mixed_versions() -> Iterator[str]:
    """Packages of which two are installed, or that ask for another version of one that is."""
    for found in map(versions, SAME_MODULE):
        if len(found) > 1:
            yield f'{listed(found)} share a folder. Fix: pip uninstall {" ".join(found)}, then install one of them'
    for name, version in versions(('us3l_mm', 'torch', 'torchvision', *LIBRARIES, *OPENMMLAB)).items():
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker is not None and not requirement.marker.evaluate({'extra': ''}):
                continue
            if name == 'us3l_mm' and requirement.name in OPENMMLAB:  # among its version_faults
                continue
            found = versions((requirement.name,)).get(requirement.name)
            if found is not None and not requirement.specifier.contains(found, prereleases=True):
                wanted = f'{requirement.name}{requirement.specifier}'
                yield f"{name} {version} needs {wanted}, found {found}. Fix: pip install '{wanted}'"


def failing_imports(names: tuple[str, ...]) -> Iterator[str]:
    """Modules that cannot be imported; mmdet may be missing."""
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != 'mmdet':
                yield f'import {name} fails: {error}. Fix: pip install {error.name}'
        except Exception as error:
            yield f'import {name} fails: {first_line(error)}. Fix: install versions of requirements/constraints.txt'


def unusable_gpus(torch: ModuleType) -> Iterator[str]:
    """GPUs that the driver shows and PyTorch cannot compute on."""
    if shutil.which('nvidia-smi') is None:
        return
    try:
        count = len(run('nvidia-smi', '-L').splitlines())
    except Exception as error:
        yield f'{first_line(error)}. Fix: repair the driver, often by a restart of the machine'
        return
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES')
    if count and torch.version.cuda is None:
        yield (
            f'nvidia-smi finds {count} GPU, but torch {torch.__version__} is a build for the CPU. Fix: install one for '
            'CUDA, see https://pytorch.org/get-started'
        )
    elif count and hidden in ('', '-1'):
        yield f'CUDA_VISIBLE_DEVICES={hidden!r} hides {count} GPU. Fix: unset CUDA_VISIBLE_DEVICES'
    elif count:
        try:
            torch.ones(1, device='cuda').add(1).item()
        except Exception as error:
            yield (
                f'PyTorch cannot compute on the GPU: {first_line(error)}. Fix: a driver for CUDA {torch.version.cuda}, '
                'or a torch for the driver that nvidia-smi shows'
            )


def full_disks() -> Iterator[str]:
    """Places that are full, or too small."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(2**20))
    except OSError as error:
        yield f'temporary files cannot be written: {first_line(error)}. Fix: make room, or set TMPDIR to another folder'
    if shutil.disk_usage('.').free < GIB:
        yield 'less than 1 GiB is free here, where checkpoints go. Fix: make room, or give another --work-dir'
    if os.path.isdir(SHARED) and shutil.disk_usage(SHARED).free < GIB:
        yield (
            f'less than 1 GiB is free in {SHARED}, through which data loaders hand on batches. Fix: docker run '
            '--shm-size=8g, or num_workers=0 in the config'
        )


def report() -> tuple[dict[str, str], list[str]]:
    """What is here, line by line, and what is wrong with it."""
    wrong = us3l_mm.version_faults()
    topics = {}
    try:
        topics = us3l_mm.prepare()
    except Exception as error:
        if not wrong:
            wrong.append(f'import us3l_mm fails: {first_line(error)}')
    lines = {
        'us3l_mm': attempt(describe_package),
        'Python': f'{platform.python_version()}, {sys.executable}',
        'system': attempt(describe_system),
        'PyTorch': attempt(describe_torch),
        'GPUs': attempt(describe_gpus),
        'OpenMMLab': listed(versions(OPENMMLAB)),
        'libraries': listed(versions(LIBRARIES)),
        'compilers': attempt(describe_compilers),
        'mmcv.ops': attempt(describe_operators) if topics else 'not looked at',
        'compat': describe_compat(topics) if topics else 'not in force',
        'disks': attempt(describe_disks),
        'processes': attempt(describe_processes),
    }
    wrong += [*mixed_versions(), *full_disks(), *failing_imports(IMPORTED + IMPORTED_BY_US if topics else IMPORTED)]
    try:
        import torch

        wrong += unusable_gpus(torch)
    except Exception as error:
        wrong.append(f'import torch fails: {first_line(error)}. Fix: see https://pytorch.org/get-started')
    return lines, wrong


def main() -> None:
    """Print the report."""
    warnings.filterwarnings('ignore')
    lines, wrong = report()
    text = [f'{name:<10} {line}' for name, line in lines.items()]
    text += (
        ['', *(f'wrong: {" ".join(fault.split())}' for fault in wrong)] if wrong else ['', 'nothing wrong was found']
    )
    home = os.path.expanduser('~')
    print('\n'.join(text).replace(home, '~') if len(home) > 1 else '\n'.join(text))
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
