"""No data file runs code: every way in is tried, and every unpickler in the source, ours and OpenMMLab's, is known."""

import ast
import hashlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
import yaml
from mmengine.dataset import BaseDataset
from mmengine.fileio.handlers import pickle_handler
from mmengine.runner import load_checkpoint

from builders import ROOT
from us3l_mm.compat import pickles

DET_SCOPE = dict(metainfo=dict(classes=('cat',)), pipeline=[], data_prefix=dict(img=''))
PLAIN = dict(
    metainfo=dict(classes=('a', 'b')),
    data_list=[
        dict(
            img=np.arange(12, dtype=np.uint8).reshape(2, 2, 3), gt_label=1, weight=np.float32(0.5), raw=b'\x80', no=None
        )
    ],
)


class CreatesFolder:
    """Unpickling this creates a folder: harmless, but it shows that code ran."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# Every way in: each takes the path of a file and reads it as a user of a config or of a tool would.


def read_by_mmengine(path):
    return mmengine.load(path)


def read_path(path):
    return mmengine.fileio.load(Path(path))


def read_open_file(path):
    with open(path, 'rb') as file:
        return mmengine.load(file, file_format='pickle')


def read_by_handler(path):
    return pickle_handler.PickleHandler.load_from_path(mmengine.fileio.handlers.file_handlers['pkl'], path)


def read_annotations(path):
    return BaseDataset(ann_file=path)


def read_proposals(path):
    mmdet = pytest.importorskip('mmdet.datasets')
    folder = Path(path).parent
    (folder / 'coco.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='1.png', width=9, height=9)],
                annotations=[],
                categories=[dict(id=1, name='cat')],
            )
        )
    )
    return mmdet.CocoDataset(ann_file=str(folder / 'coco.json'), proposal_file=path, **DET_SCOPE)


def read_splits(path):
    mmdet = pytest.importorskip('mmdet.datasets')
    (Path(path).parent / 'instances.json').write_text('{}')
    return mmdet.RefCocoDataset(
        data_root=str(Path(path).parent),
        ann_file='instances.json',
        split_file=Path(path).name,
        data_prefix=dict(img_path=''),
        split='train',
    )


def read_hierarchy(path):
    openimages = pytest.importorskip('mmdet.datasets.openimages')
    dataset = openimages.OpenImagesChallengeDataset.__new__(openimages.OpenImagesChallengeDataset)
    dataset.backend_args = None
    return dataset._get_relation_matrix(path)


def read_cifar(path):
    """As for a data set of one's own in the format of CIFAR, whose hashes are right."""
    cifar = importlib.import_module('mmpretrain.datasets.cifar')
    entry = [Path(path).name, hashlib.md5(Path(path).read_bytes()).hexdigest()]
    own = type('Own', (cifar.CIFAR10,), dict(base_folder='', train_list=[entry], test_list=[entry]))
    return own(data_root=str(Path(path).parent), split='train', pipeline=[])


GATED = [
    read_by_mmengine,
    read_path,
    read_open_file,
    read_by_handler,
    read_annotations,
    read_proposals,
    read_splits,
    read_hierarchy,
]
OPTIONS = [None, '0', 'True', '1']  # 1 alone switches it on


@pytest.fixture(params=OPTIONS)
def option(request, monkeypatch):
    if request.param is None:
        monkeypatch.delenv(pickles.OPTION, raising=False)
    else:
        monkeypatch.setenv(pickles.OPTION, request.param)
    return request.param


@pytest.fixture
def hostile(tmp_path):
    path = tmp_path / 'data.pkl'
    content = dict(data_list=[CreatesFolder(tmp_path / 'marker')], data=[], labels=[])
    path.write_bytes(pickle.dumps(content, protocol=2))
    return str(path)


@pytest.mark.parametrize('read', [*GATED, read_cifar], ids=lambda read: read.__name__)
def test_code_in_a_data_file_is_refused_and_not_run(read, hostile, tmp_path, option):
    with pytest.raises(pickle.UnpicklingError) as caught:
        read(hostile)
    assert not (tmp_path / 'marker').exists()
    if option == '1' or read is read_cifar:  # the latter needs no option: its hashes are known
        assert 'was refused and nothing in it was executed' in str(caught.value) and 'mkdir' in str(caught.value)
    else:
        assert 'is a pickle' in str(caught.value) and f'set {pickles.OPTION}=1' in str(caught.value)
    if read not in (read_open_file, read_by_handler, read_cifar):  # which know no name
        assert str(caught.value).startswith(hostile)


def test_the_file_would_run_code(hostile, tmp_path):
    """Else the test above would hold for a file without any."""
    pickle.loads(Path(hostile).read_bytes())
    assert (tmp_path / 'marker').exists()


@pytest.mark.parametrize('read', [read_by_mmengine, read_path, read_open_file, read_by_handler])
def test_plain_annotations_are_read_where_the_option_is_on(read, tmp_path, option):
    path = str(tmp_path / 'data.pkl')
    mmengine.dump(PLAIN, path)
    if option != '1':
        with pytest.raises(pickle.UnpicklingError, match='is a pickle'):
            read(path)
        return
    loaded = read(path)
    np.testing.assert_equal(loaded, PLAIN)
    assert type(loaded['data_list'][0]['weight']) is np.float32


def test_data_set_reads_plain_annotations(tmp_path, monkeypatch):
    monkeypatch.setenv(pickles.OPTION, '1')
    mmengine.dump(PLAIN, tmp_path / 'data.pkl')
    dataset = BaseDataset(ann_file=str(tmp_path / 'data.pkl'), data_prefix={})
    assert len(dataset) == 1 and dataset.metainfo['classes'] == ('a', 'b')
    np.testing.assert_equal(dataset[0]['img'], PLAIN['data_list'][0]['img'])


def test_predictions_of_a_test_are_read_back(tmp_path, monkeypatch):
    """tools/test.py --out writes tensors, which pickle puts into a file of torch inside the file."""
    monkeypatch.setenv(pickles.OPTION, '1')
    scores = torch.tensor([0.25, 0.75], dtype=torch.float64)
    mmengine.dump([dict(pred_score=scores, pred_label=torch.tensor([1]))], tmp_path / 'out.pkl')
    (loaded,) = mmengine.load(tmp_path / 'out.pkl')
    assert torch.equal(loaded['pred_score'], scores) and loaded['pred_label'].item() == 1


def test_code_inside_the_file_of_a_tensor_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(pickles.OPTION, '1')

    class Inner:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(CreatesFolder(tmp_path / 'marker'), protocol=2),)

    mmengine.dump(Inner(), tmp_path / 'out.pkl')
    with pytest.raises(pickle.UnpicklingError, match='was refused and nothing in it was executed'):
        mmengine.load(tmp_path / 'out.pkl')
    assert not (tmp_path / 'marker').exists()
    with pytest.raises(RuntimeError, match='corrupt file'):  # control: too late
        pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert (tmp_path / 'marker').exists()


@pytest.mark.parametrize('content', [b'', b'<html>', b'\x80\x02}q\x00X', b'PK\x03\x04'])
def test_file_that_is_no_pickle_is_named(content, tmp_path, monkeypatch):
    monkeypatch.setenv(pickles.OPTION, '1')
    (tmp_path / 'data.pkl').write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match=r'data\.pkl was refused and nothing in it was executed: \S'):
        mmengine.load(tmp_path / 'data.pkl')


def test_yaml_runs_nothing_and_keeps_tuples(tmp_path):
    path, tag = tmp_path / 'ann.yaml', f'a: !!python/object/apply:os.mkdir [{tmp_path / "marker"}]'
    path.write_text(tag)
    for read in (mmengine.load, lambda path: mmengine.Config.fromfile(str(path)), lambda path: BaseDataset(str(path))):
        with pytest.raises(yaml.YAMLError, match=r'\.yaml could not determine a constructor'):
            read(path)
    assert not (tmp_path / 'marker').exists()
    yaml.load(tag, yaml.UnsafeLoader)  # control
    assert (tmp_path / 'marker').exists()
    plain = dict(a=[1, 2.5, 'x', None, True], b=dict(scale=(224, (1, 2))))
    mmengine.dump(plain, path)
    assert mmengine.load(path) == plain


def test_cifar_is_read_as_it_was_written(tmp_path):
    """By Python 2: text for bytes."""
    images = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    written = pickle.dumps({'data': images, 'labels': [3, 1, 4]}, protocol=2)
    (tmp_path / 'batch').write_bytes(written)
    dataset = read_cifar(str(tmp_path / 'batch'))
    for index, label in enumerate([3, 1, 4]):
        assert dataset[index]['gt_label'] == label
        np.testing.assert_array_equal(dataset[index]['img'], images[index].reshape(3, 32, 32).transpose(1, 2, 0))


def test_files_of_cifar_that_are_not_the_known_ones_are_not_read(tmp_path):
    cifar = importlib.import_module('mmpretrain.datasets.cifar')
    folder = tmp_path / cifar.CIFAR10.base_folder
    folder.mkdir()
    for name, _ in [*cifar.CIFAR10.train_list, *cifar.CIFAR10.test_list]:
        (folder / name).write_bytes(pickle.dumps(CreatesFolder(tmp_path / 'marker'), protocol=2))
    with pytest.raises(RuntimeError, match='Cannot find CIFAR10'):
        cifar.CIFAR10(data_root=str(tmp_path), download=False)
    assert not (tmp_path / 'marker').exists()


def test_hierarchy_of_openimages_is_read(tmp_path, monkeypatch):
    tree = np.arange(16).reshape(4, 4)
    np.save(tmp_path / 'tree.npy', tree)
    np.testing.assert_array_equal(read_hierarchy(str(tmp_path / 'tree.npy')), tree[1:, 1:])
    tree.dump(tmp_path / 'tree.np')
    monkeypatch.setenv(pickles.OPTION, '1')
    np.testing.assert_array_equal(read_hierarchy(str(tmp_path / 'tree.np')), tree[1:, 1:])
    np.save(tmp_path / 'object.npy', np.array([CreatesFolder(tmp_path / 'marker')], dtype=object))
    with pytest.raises(pickle.UnpicklingError, match=r'object\.npy was refused'):
        read_hierarchy(str(tmp_path / 'object.npy'))
    assert not (tmp_path / 'marker').exists()


@pytest.mark.skipif(not pickles.checkpoint_types.HAS_ALLOW_LIST, reason='torch.load itself is unsafe before 2.6')
def test_torch_load_of_others_is_safe_too(hostile, tmp_path):
    """Queues of SwAV and caches of retrieval are read by torch.load as it is."""
    torch.save(dict(queue=CreatesFolder(tmp_path / 'marker')), tmp_path / 'queue.pth')
    for path in (tmp_path / 'queue.pth', hostile):
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path)
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(torch.nn.Linear(1, 1), hostile)
    assert not (tmp_path / 'marker').exists()


@pytest.mark.slow
@pytest.mark.parametrize('order', [('us3l_mm', 'mmpretrain.datasets.cifar'), ('mmpretrain.datasets.cifar', 'us3l_mm')])
def test_modules_are_closed_whichever_is_imported_first(order):
    code = f"""import {', '.join(order)}
from us3l_mm.compat import pickles
assert mmpretrain.datasets.cifar.pickle.loads is pickles.loads
"""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_names_of_closed_modules_are_still_right():
    site = Path(importlib.util.find_spec('mmpretrain').origin).parents[1]
    for name in pickles._CLOSE:
        if importlib.util.find_spec(name.split('.')[0]) is not None:
            assert (site / name.replace('.', '/')).with_suffix('.py').is_file()


# Every place in the source that could run what a file says


class Finder(ast.NodeVisitor):
    """Names the calls that can run what a file says, with the safe forms of them left out."""

    def __init__(self):
        self.found = []

    def visit_Import(self, node):
        self.found += [f'import {a.name}' for a in node.names if a.name.split('.')[0] in self.MODULES]

    def visit_ImportFrom(self, node):
        if not node.level and node.module.split('.')[0] in {*self.MODULES, 'pickle'}:
            self.found.append(f'from {node.module} import')

    MODULES = {'joblib', 'shelve', 'dill', 'cloudpickle', 'marshal', 'cPickle'}
    ALWAYS = {
        'pickle.load',
        'pickle.loads',
        'pickle.Unpickler',
        'pandas.read_pickle',
        'torch.jit.load',
        'torch.hub.load',
    }
    ALWAYS |= {'torch.export.load', 'torch.package.PackageImporter', 'eval', 'exec', 'Config.fromstring'}
    ALWAYS |= {'yaml.unsafe_load', 'yaml.full_load', 'yaml.unsafe_load_all', 'yaml.full_load_all'}

    def visit_Call(self, node):
        name = ast.unparse(node.func).removeprefix('mmengine.')
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        unsafe = name in self.ALWAYS
        unsafe |= name == 'torch.load' and options.get('weights_only') != 'True'
        unsafe |= name in ('np.load', 'numpy.load') and options.get('allow_pickle', 'False') != 'False'
        loader = options.get('Loader', *[ast.unparse(argument) for argument in node.args[1:2]])
        unsafe |= name in ('yaml.load', 'yaml.load_all') and not str(loader).endswith('SafeLoader')
        if unsafe:
            self.found.append(name)
        self.generic_visit(node)


def calls_in(folder):
    """Unsafe calls by file, relative to the folder."""
    found = {}
    for path in sorted(folder.rglob('*.py')):
        if '.mim' not in path.parts:
            finder = Finder()
            finder.visit(ast.parse(path.read_text(encoding='utf-8')))
            if finder.found:
                found[path.relative_to(folder).as_posix()] = sorted(set(finder.found))
    return found


OURS = {
    'us3l_mm': {
        'compat/checkpoint_types.py': ['torch.load'],  # by an unpickler that builds allowed types only, torch < 2.6
        'deploy/export.py': ['torch.export.load'],  # what this process has just exported
    },
    'tools': {
        'dev/snapshot.py': ['torch.export.load'],  # what the same command has exported
        # Shows that its own payloads run where they are loaded unsafely.
        'fault/hostile_files.py': ['Config.fromstring', 'pickle.loads', 'torch.load', 'yaml.load'],
        'us3l.py': ['exec'],  # one of the tools beside it
    },
    'projects': {},
}
THEIRS = {
    'mmcv': {  # text of configs, which are code by nature
        'cnn/rfsearch/search.py': ['eval'],
        'ops/nms.py': ['eval'],
    },
    'mmdet': {
        'datasets/openimages.py': ['np.load'],  # replaced by pickles.py
        'evaluation/functional/class_names.py': ['eval'],  # a name out of mmdet's own list
        'evaluation/metrics/base_video_metric.py': ['pickle.load'],  # what the ranks of this run have just written
        'models/task_modules/tracking/camera_motion_compensation.py': ['eval'],  # config
        'utils/dist_utils.py': ['pickle.loads'],  # from another rank
    },
    'mmengine': {
        'config/config.py': ['eval', 'exec'],  # configs
        'dataset/base_dataset.py': ['pickle.loads'],  # of bytes that it has made itself
        'dist/dist.py': ['pickle.load', 'pickle.loads'],  # from another rank
        'fileio/handlers/pickle_handler.py': ['pickle.load'],  # replaced by pickles.py
        'fileio/handlers/yaml_handler.py': ['yaml.load'],  # its loader is replaced by pickles.py
        'infer/infer.py': ['Config.fromstring'],  # checkpoint.py takes the text out
        'runner/_flexible_runner.py': ['Config.fromstring'],
        'runner/checkpoint.py': ['torch.load'],  # replaced by checkpoint.py; on other storages safe from torch 2.6 on
        'runner/runner.py': ['Config.fromstring'],
        'utils/dl_utils/hub.py': ['torch.load'],  # before torch 1.7
    },
    'mmpretrain': {
        'apis/multimodal_retrieval.py': ['torch.load'],  # these: safe from torch 2.6 on
        'datasets/cifar.py': ['pickle.loads'],  # replaced by pickles.py
        'datasets/transforms/processing.py': ['eval'],  # config
        'engine/hooks/swav_hook.py': ['torch.load'],
        'models/multimodal/ram/gradio_demo.py': ['torch.load'],
        'models/multimodal/ram/openset_utils.py': ['torch.load'],
        'models/multimodal/ram/ram.py': ['pickle.load'],  # replaced by pickles.py
        'models/retrievers/image2image.py': ['torch.load'],
        'models/utils/vector_quantizer.py': ['torch.load'],
    },
}


@pytest.mark.parametrize('folder', OURS)
def test_our_source_has_no_other_unsafe_reader(folder):
    assert calls_in(ROOT / folder) == OURS[folder]


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:invalid escape sequence')  # of theirs
@pytest.mark.parametrize('package', THEIRS)
def test_every_unsafe_reader_of_openmmlab_is_known(package):
    """One that a new release brings has to be looked at."""
    pytest.importorskip(package)
    folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    assert calls_in(folder) == THEIRS[package]


def test_the_finder_finds():
    source = """
import shelve
from pickle import loads
torch.load(x), torch.load(x, weights_only=False), torch.load(x, weights_only=True)
np.load(x, allow_pickle=True), np.load(x), np.load(x, allow_pickle=False)
yaml.load(x), yaml.load(x, Loader=yaml.Loader), yaml.load(x, yaml.CSafeLoader), yaml.safe_load(x)
mmengine.Config.fromstring(x), pickle.load(x), model.eval(), eval(x)
"""
    finder = Finder()
    finder.visit(ast.parse(source))
    assert sorted(finder.found) == sorted(
        ['import shelve', 'from pickle import', 'torch.load', 'torch.load', 'np.load', 'yaml.load', 'yaml.load']
        + ['Config.fromstring', 'pickle.load', 'eval']
    )
