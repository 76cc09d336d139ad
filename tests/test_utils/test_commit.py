"""The commit of the package, which is not that of the working directory."""

import shutil
import subprocess

import pytest

from builders import ROOT
from us3l_mm.utils.commit import package_commit


def git(folder, *command):
    return subprocess.run(['git', '-C', folder, *command], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which('git') is None, reason='needs git')
def test_commit_is_that_of_the_package(tmp_path, monkeypatch):
    git(tmp_path, 'init')
    git(tmp_path, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '--allow-empty', '-m', 'of another project')
    theirs = git(tmp_path, 'rev-parse', '--short=7', 'HEAD')
    monkeypatch.chdir(tmp_path)
    assert package_commit() == (git(ROOT, 'rev-parse', '--short=7', 'HEAD') if (ROOT / '.git').exists() else '')
    assert package_commit(tmp_path) == theirs
    installed = tmp_path / 'lib'
    installed.mkdir()
    assert package_commit(installed) == ''
