"""Work dirs are locked, not trained over, and give the newest sound checkpoint."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from us3l_mm.engine.work_dir import (
    checkpoint_files,
    lock,
    newest_checkpoint,
    read_training_checkpoint,
    refuse_to_overwrite,
)


def save(folder, name, iteration, epoch, **changes):
    folder.mkdir(exist_ok=True)
    checkpoint = dict(
        meta=dict(iter=iteration, epoch=epoch),
        state_dict=dict(w=torch.full((50,), float(iteration))),
        optimizer=dict(),
        message_hub=dict(),
    )
    checkpoint.update(changes)
    torch.save({key: value for key, value in checkpoint.items() if value is not None}, folder / name)
    return folder / name


def point(folder, text):
    (folder / 'last_checkpoint').write_text(text)
    now = time.time() + 1
    os.utime(folder / 'last_checkpoint', (now, now))


@pytest.fixture
def folder(tmp_path):
    """A work dir with three checkpoints and a right hint."""
    for epoch in (1, 2, 3):
        save(tmp_path / 'run', f'epoch_{epoch}.pth', 10 * epoch, epoch)
    point(tmp_path / 'run', 'epoch_3.pth')
    return tmp_path / 'run'


def name(folder):
    return newest_checkpoint(folder, folder).path.name


def tear(path, how):
    whole = path.read_bytes()
    damaged = dict(empty=b'', half=whole[: len(whole) // 2], zeros=bytes(len(whole)))
    path.write_bytes(damaged[how])


def test_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path, tmp_path) is None
    (tmp_path / 'best_acc_epoch_1.pth').write_bytes(b'x')  # no place to go on from
    assert newest_checkpoint(tmp_path, tmp_path) is None


def test_sound_work_dir_reads_one_checkpoint(folder, monkeypatch):
    (folder / 'epoch_1.pth').write_bytes(b'')  # would be told if it was read
    assert name(folder) == 'epoch_3.pth'


@pytest.mark.parametrize(
    'hint',
    [None, '', 'epoch_1.pth', 'epoch_9.pth', '/elsewhere/epoch_3.pth', '/elsewhere/epoch_7.pth', '\0\0', 'x' * 999],
)
def test_hint_that_is_missing_empty_stale_or_elsewhere(folder, hint):
    (folder / 'last_checkpoint').unlink()
    if hint is not None:
        point(folder, hint)
    assert name(folder) == 'epoch_3.pth'


@pytest.mark.parametrize('how', ['empty', 'half', 'zeros'])
def test_newest_is_torn(folder, how, capsys):
    tear(folder / 'epoch_3.pth', how)
    assert name(folder) == 'epoch_2.pth'
    (warning,) = capsys.readouterr().out.splitlines()
    assert 'WARNING' in warning and 'epoch_3.pth' in warning and warning.endswith('epoch_2.pth')


def test_newest_is_missing(folder, capsys):
    (folder / 'epoch_3.pth').unlink()
    assert name(folder) == 'epoch_2.pth'
    (warning,) = capsys.readouterr().out.splitlines()
    assert 'WARNING' in warning and "'epoch_3.pth', which is not in" in warning and warning.endswith('epoch_2.pth')


def test_all_are_missing(folder):
    for path in folder.glob('*.pth'):
        path.unlink()
    with pytest.raises(RuntimeError, match=r'no sound checkpoint in .*epoch_3.*--overwrite'):
        newest_checkpoint(folder, folder)


def test_all_are_torn(folder):
    for path in folder.glob('*.pth'):
        tear(path, 'half')
    with pytest.raises(RuntimeError, match='no sound checkpoint in .*epoch_1.*--overwrite'):
        newest_checkpoint(folder, folder)


def test_checkpoint_that_the_hint_does_not_know_yet(folder):
    """The process died after the file had got its name."""
    path = save(folder, 'epoch_4.pth', 40, 4)
    os.utime(path, (time.time() + 5,) * 2)
    assert name(folder) == 'epoch_4.pth'


def test_a_run_that_was_resumed_from_an_older_one_goes_on_from_that(folder):
    """Files of the time line that was left are further, but older than what was written since."""
    os.utime(folder / 'epoch_2.pth', (time.time() + 5,) * 2)
    point(folder, 'epoch_2.pth')
    assert name(folder) == 'epoch_2.pth'


def test_interruption_counts_by_its_place(folder):
    save(folder, 'interrupted.pth', 25, 2)
    (folder / 'last_checkpoint').unlink()
    assert name(folder) == 'epoch_3.pth'
    save(folder, 'interrupted.pth', 35, 3)
    assert name(folder) == 'interrupted.pth'


def test_copied_work_dir_goes_on_from_itself(folder, tmp_path):
    point(folder, str(folder / 'epoch_3.pth'))  # as mmengine writes it
    shutil.copytree(folder, tmp_path / 'copy')
    assert newest_checkpoint(tmp_path / 'copy', tmp_path / 'copy').path == tmp_path / 'copy' / 'epoch_3.pth'


def test_checkpoints_in_another_folder(folder, tmp_path):
    work_dir = tmp_path / 'logs'
    work_dir.mkdir()
    for hint in (None, '../run/epoch_3.pth'):
        if hint:
            point(work_dir, hint)
        assert newest_checkpoint(work_dir, folder).path.samefile(folder / 'epoch_3.pth')


@pytest.mark.parametrize(
    'changes, lacking',
    [
        (dict(optimizer=None), 'optimizer'),
        (dict(message_hub=None), 'message_hub'),
        (dict(meta=dict(epoch=1)), 'place'),
        (dict(meta=None), 'place'),
        (dict(meta=dict(epoch=1, iter=-1)), 'place'),
        (dict(meta=dict(epoch=1, iter='3')), 'place'),
    ],
)
def test_file_that_is_no_training_checkpoint_is_refused_by_name(tmp_path, changes, lacking):
    path = save(tmp_path, 'epoch_1_calibrated.pth', 3, 1, **changes)
    with pytest.raises(RuntimeError, match=rf'epoch_1_calibrated\.pth is no checkpoint of a training.*{lacking}'):
        read_training_checkpoint(path)


def test_work_dir_with_checkpoints_is_not_trained_over(folder):
    with pytest.raises(SystemExit, match=r'epoch_3\.pth.*--resume.*--overwrite'):
        refuse_to_overwrite(folder, overwrite=False)
    assert len(checkpoint_files(folder)) == 3
    save(folder, 'mine.pth', 1, 1)
    refuse_to_overwrite(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ['mine.pth']
    refuse_to_overwrite(folder, overwrite=False)


HOLD = 'import sys, time; from pathlib import Path; from us3l_mm.engine.work_dir import lock\n'


def test_lock_is_that_of_a_living_process(tmp_path):
    code = HOLD + 'held = lock(Path(sys.argv[1])); print("held", flush=True); time.sleep(100)'
    with subprocess.Popen([sys.executable, '-c', code, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        while 'held' not in other.stdout.readline():
            assert other.poll() is None
        with pytest.raises(SystemExit, match=f'another training is at work in .*process {other.pid} on '):
            lock(tmp_path)
        other.kill()
        other.wait()
        lock(tmp_path).close()
