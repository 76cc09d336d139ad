"""A folder packed into LMDB gives the images of the folder, to every loader of ours."""

import sys

import numpy as np
import pytest
from mmengine.fileio.io import backend_instances
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from sklearn.datasets import load_sample_images

from us3l_mm.datasets import BadImageError, LoadImageFromFile, LoadResizedCrops
from us3l_mm.datasets.check import check_data

NAMES = ['cat/a.jpg', 'dog/b c.png', 'dog/ä%20.jpg']


@pytest.fixture
def folder(tmp_path):
    for name, photo in zip(NAMES, [*load_sample_images().images, load_sample_images().images[0][:100]]):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[::2, ::2]).save(path)
    return tmp_path / 'images'


def dataset_of(out, load):
    init_default_scope('mmpretrain')
    load = dict(load, backend_args=dict(backend='lmdb', db_path=str(out)))
    options = dict(data_root='', ann_file=str(out / 'images.txt'), with_label=False)
    return DATASETS.build(dict(type='CustomDataset', pipeline=[load], **options))


def test_loaders_give_the_images_of_the_folder(folder, tmp_path, run_tool):
    pytest.importorskip('lmdb')
    out = tmp_path / 'lmdb'
    run_tool('images_to_lmdb', folder, out)
    dataset = dataset_of(out, dict(type='us3l_mm.LoadImageFromFile'))
    assert len(dataset) == len(NAMES)
    for name, sample in zip(NAMES, dataset):
        assert np.array_equal(sample['img'], LoadImageFromFile()(dict(img_path=str(folder / name)))['img'])
    crops = dataset_of(out, dict(type='us3l_mm.LoadResizedCrops', scale=24, num_views=2))
    for name, index in zip(NAMES, range(3)):
        np.random.seed(0)
        found = crops[index]['img']
        np.random.seed(0)
        expected = LoadResizedCrops(24, num_views=2)(dict(img_path=str(folder / name)))['img']
        assert all(map(np.array_equal, found, expected))
    assert check_data(dict(train=dataset)) == ([], [])  # no files to look at
    with pytest.raises(BadImageError, match='none.jpg: LmdbBackend has no entry of this name; .*db_path'):
        dataset.pipeline(dict(img_path='none.jpg'))


def test_interrupted_command_goes_on_with_the_same_options(folder, tmp_path, run_tool):
    lmdb, out = pytest.importorskip('lmdb'), tmp_path / 'lmdb'
    run_tool('images_to_lmdb', folder, out, '--short-side', 80)
    images = [sample['img'] for sample in dataset_of(out, dict(type='us3l_mm.LoadImageFromFile'))]
    assert [min(image.shape[:2]) for image in images] == [80, 80, 50]
    backend_instances.clear()  # a file is opened once in a process
    with lmdb.open(str(out)) as database, database.begin(write=True) as writer:
        writer.delete(b'cat/a.jpg')
        writer.put(b'dog/b%20c.png', b'kept')
    (out / 'images.txt').unlink()
    run_tool('images_to_lmdb', folder, out, '--short-side', 80)
    with lmdb.open(str(out), readonly=True) as database, database.begin() as reader:
        assert reader.get(b'cat/a.jpg') is not None and reader.get(b'dog/b%20c.png') == b'kept'
    with pytest.raises(SystemExit, match='other options.*"short_side": 80.*remove it'):
        run_tool('images_to_lmdb', folder, out)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # of mmengine's half-built backend
def test_what_is_missing_is_told(folder, tmp_path, run_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    with pytest.raises(SystemExit, match='pip install lmdb'):
        run_tool('images_to_lmdb', folder, tmp_path / 'lmdb')
    with pytest.raises(BadImageError, match='pip install lmdb'):
        LoadImageFromFile(backend_args=dict(backend='lmdb', db_path='none'))(dict(img_path='a'))
