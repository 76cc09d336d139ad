"""The commit of this package, wherever it is called from."""

import subprocess
from pathlib import Path


def package_commit(root: Path = Path(__file__).parents[2]) -> str:
    """Short hash of the commit that is checked out; empty if the package is not in a checkout of its own.

    mmengine's ``get_git_hash`` asks the repository of the working directory, which may be that of another project.

    Args:
        root (Path): Folder of the package's folder.
    """
    if not (root / '.git').exists():
        return ''
    command = ['git', '-C', str(root), 'rev-parse', '--short=7', 'HEAD']
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or it refuses the folder of another user
        return ''
