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


def test_what_cannot_be_written_is_named_with_the_free_space(tmp_path):
    def fill_disk(path):
        raise RuntimeError('[enforce fail at inline_container.cc:672] . unexpected pos 84608 vs 84496')  # torch's

    with pytest.raises(OSError, match=r'cannot write .*/a: .*unexpected pos.* MiB free there'):
        write_files({tmp_path / 'a': fill_disk})


def test_other_errors_are_not_blamed_on_the_disk(tmp_path):
    def fail(path):
        raise RuntimeError('the loss is nan')

    with pytest.raises(RuntimeError, match=r'^the loss is nan$'):
        write_files({tmp_path / 'a': fail})
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept_without_force(tmp_path):
    write_text(tmp_path / 'folder' / 'a', 'one')
    with pytest.raises(FileExistsError, match='a exists already; give --force'):
        write_files({tmp_path / 'folder' / 'a': lambda path: path.write_text('two')})
    assert (tmp_path / 'folder' / 'a').read_text() == 'one'
    write_text(tmp_path / 'folder' / 'a', 'two')
    assert (tmp_path / 'folder' / 'a').read_text() == 'two'
