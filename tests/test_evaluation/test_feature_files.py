"""Features in files are those in memory, to the bit, also after an interruption."""

import json

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from us3l_mm.evaluation import cached_features, feature_files

WIDTHS = (1.0, 0.5)


class Numbers(Dataset):
    """23 rows, and how often each was read; ``stop`` is a row that cannot be read."""

    def __init__(self, stop=None):
        self.rows = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
        self.read, self.stop = [], stop

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if index == self.stop:
            raise KeyboardInterrupt
        self.read.append(index)
        return dict(x=self.rows[index], label=index % 4)


def extract(folder, data, source='a'):
    def features_of(batch):
        return {width: batch['x'][:, : int(6 * width)] / 3 for width in WIDTHS}, batch['label']

    return cached_features(folder, dict(source=source), data, lambda part: DataLoader(part, batch_size=4), features_of)


@pytest.fixture(autouse=True)
def note_often(monkeypatch):
    monkeypatch.setattr(feature_files, '_SAVED_EVERY', 2)


def check(found):
    features, labels = found
    assert set(features) == set(WIDTHS) and labels.tolist() == [index % 4 for index in range(23)]
    for width in WIDTHS:
        assert torch.equal(features[width], Numbers().rows[:, : int(6 * width)] / 3)


def test_second_time_reads_no_image(tmp_path):
    check(extract(tmp_path / 'x', Numbers()))
    again = Numbers()
    check(extract(tmp_path / 'x', again))
    assert not again.read


@pytest.mark.parametrize('stop', [0, 5, 8, 15, 22])
def test_interruption_changes_nothing(tmp_path, stop):
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, Numbers(stop))
    rest = Numbers()
    check(extract(tmp_path, rest))
    assert rest.read == list(range(stop // 8 * 8, 23))  # from the last note, of two batches of four


def test_features_of_something_else_are_extracted_anew(tmp_path, capfd):
    extract(tmp_path, Numbers())
    other = Numbers()
    check(extract(tmp_path, other, source='b'))
    assert len(other.read) == 23
    out = capfd.readouterr()
    assert 'has features of other source; extracting them anew' in out.out + out.err
    assert json.loads((tmp_path / 'state.json').read_text())['fingerprint'] == dict(source='b', images=23)


def test_full_disk_is_said_before_writing(tmp_path, monkeypatch):
    usage = feature_files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(feature_files.shutil, 'disk_usage', lambda path: usage._replace(free=10))
    with pytest.raises(OSError, match=r'labels\.npy needs 0\.0 MiB, 0\.0 are free; make room or take another --work'):
        extract(tmp_path, Numbers())
