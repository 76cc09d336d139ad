"""Files appear complete or not at all."""

import pytest

from us3l_mm.utils.files import write_files, write_text


def test_no_file_appears_unless_all_are_complete(tmp_path):
    def fail(path):
        path.write_text('half')
        raise OSError('disk full')

    (tmp_path / 'a').write_text('old')
    with pytest.raises(OSError, match='disk full'):
        write_files({tmp_path / 'a': lambda path: path.write_text('new'), tmp_path / 'b': fail}, force=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('a', 'old')]


def test_what_is_there_is_kept_without_force(tmp_path):
    write_text(tmp_path / 'folder' / 'a', 'one')
    with pytest.raises(FileExistsError, match='a exists already; give --force'):
        write_files({tmp_path / 'folder' / 'a': lambda path: path.write_text('two')})
    assert (tmp_path / 'folder' / 'a').read_text() == 'one'
    write_text(tmp_path / 'folder' / 'a', 'two')
    assert (tmp_path / 'folder' / 'a').read_text() == 'two'
