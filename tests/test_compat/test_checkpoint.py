"""Loading of checkpoints: real ones resume, damaged and hostile ones are refused with a clear error."""

import collections
import functools
import io
import os
import pickle
import random
import shutil
import zipfile
from types import SimpleNamespace

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmengine.utils import digit_version

from us3l_mm.compat import checkpoint, checkpoint_types


class Squares(torch.utils.data.Dataset):
    metainfo = dict(classes=('a', 'b'), palette=[(0, 0, 0), (255, 255, 255)])

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return dict(x=torch.tensor([float(index), float(index) ** 2]))


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, x, mode='tensor'):
        return dict(loss=(self.linear(torch.stack(x) / 10) - 1).pow(2).mean())


def make_runner(work_dir, name, **kwargs):
    return Runner(
        Regression(),
        str(work_dir),
        train_dataloader=dict(
            dataset=Squares(), batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='MultiStepLR', milestones=[2], by_epoch=True),
            dict(type='OneCycleLR', eta_max=0.1, total_steps=50, by_epoch=False),
        ],
        custom_hooks=[dict(type='EMAHook')],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        randomness=dict(seed=0),
        # Runner and its hubs are looked up by name: one name a run.
        experiment_name=f'{work_dir.name}-{name}',
        **kwargs,
    )


@pytest.fixture(scope='module')
def real_checkpoint(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    runner = make_runner(work_dir, 'straight')
    runner.train()
    return work_dir, runner


def test_real_checkpoint_holds_the_types_that_need_an_allow_list(real_checkpoint):
    loaded = CheckpointLoader.load_checkpoint(str(real_checkpoint[0] / 'epoch_3.pth'))
    histories = loaded['message_hub']['log_scalars']
    loss = real_checkpoint[1].message_hub.get_scalar('train/loss')
    assert isinstance(histories['train/loss'], HistoryBuffer)
    for got, expected in zip(histories['train/loss'].data, loss.data, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert histories['train/loss'].mean() == loss.mean()
    assert isinstance(loaded['param_schedulers'][0]['milestones'], collections.Counter)


def test_resume_equals_uninterrupted(real_checkpoint, tmp_path):
    work_dir, straight = real_checkpoint
    shutil.copy(work_dir / 'epoch_2.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    resumed = make_runner(tmp_path, 'resumed', resume=True)
    resumed.train()
    final = [torch_state(run) for run in (resumed, straight)]
    assert len(final[0]) == len(final[1]) > 6
    assert all(torch.equal(got, expected) for got, expected in zip(*final, strict=True))
    assert resumed.iter == straight.iter == 9
    assert resumed.optim_wrapper.get_lr() == straight.optim_wrapper.get_lr()
    losses = [run.message_hub.get_scalar('train/loss').data[0] for run in (resumed, straight)]
    np.testing.assert_array_equal(*losses)


def torch_state(runner):
    """Weights, averaged weights and Adam moments."""
    ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
    moments = runner.optim_wrapper.optimizer.state_dict()['state'].values()
    return [
        *runner.model.state_dict().values(),
        *ema.state_dict().values(),
        *(moment[name] for moment in moments for name in ('step', 'exp_avg', 'exp_avg_sq')),
    ]


def test_init_cfg_pretrained_and_load_checkpoint_go_through_the_safe_loader(real_checkpoint, tmp_path):
    path = str(real_checkpoint[0] / 'epoch_2.pth')
    expected = CheckpointLoader.load_checkpoint(path)['state_dict']
    by_init, by_call = Regression(), Regression()
    by_init.init_cfg = dict(type='Pretrained', checkpoint=path)
    by_init.init_weights()
    load_checkpoint(by_call, path)
    for model in (by_init, by_call):
        for name, value in model.state_dict().items():
            assert torch.equal(value, expected[name])
    by_init = Regression()
    by_init.init_cfg = dict(type='Pretrained', checkpoint=str(hostile(tmp_path, 'zip')))
    with pytest.raises(pickle.UnpicklingError, match='refused'):
        by_init.init_weights()


@pytest.mark.parametrize('new_format', [True, False])
def test_allowed_values_come_back_equal(tmp_path, new_format):
    values = dict(
        scalars=[np.float64(1.5), np.float32(0.1), np.int64(-3), np.uint8(7), np.bool_(True)],
        arrays=[np.arange(6.0).reshape(2, 3), np.array(['a', 'bc']), np.zeros(0)],
        plain=[
            None,
            True,
            2,
            3.5,
            'text',
            b'bytes',
            (1, 2),
            {3, 4},
            complex(1, 2),
            collections.Counter('aab'),
        ],
        config=ConfigDict(a=1, b=dict(c=[1, 2])),
        ordered=collections.OrderedDict(w=torch.arange(3)),
        parameter=torch.nn.Parameter(torch.ones(2)),
        other=[torch.device('cpu'), torch.float16, torch.Size([1, 2])],
    )
    path = tmp_path / 'values.pth'
    torch.save(values, path, _use_new_zipfile_serialization=new_format)
    loaded = checkpoint.load_from_local(str(path))
    for group in ('scalars', 'arrays'):
        for got, expected in zip(loaded[group], values[group], strict=True):
            assert type(got) is type(expected) and got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)
    assert loaded['plain'] == values['plain'] and loaded['config'] == values['config']
    assert torch.equal(loaded['ordered']['w'], torch.arange(3))
    assert isinstance(loaded['parameter'], torch.nn.Parameter) and loaded['other'] == values['other']


@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
def test_numpy_values_load_whichever_numpy_wrote_them(core):
    # Pickles name NumPy's internal module, which NumPy 2 renamed.
    names = checkpoint_types.allowed_globals()
    scalar = names[f'{core}.multiarray.scalar'](np.dtype('f8'), np.float64(2.5).tobytes())
    assert scalar == 2.5 and type(scalar) is np.float64
    assert f'{core}.multiarray._reconstruct' in names


class CreatesFile:
    """Unpickling this would create a folder: harmless, but it shows whether code ran."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class ReadsAttribute:
    """Unpickling this would reach a function through getattr, which the allow-list replaces."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


class Unknown:
    pass


def hostile(folder, form, value=None):
    path = folder / 'hostile.pth'
    content = dict(state_dict=dict(w=value or CreatesFile(folder / 'marker')))
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')
    return path


@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle'])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, form):
    path = hostile(tmp_path, form)
    with pytest.raises(pickle.UnpicklingError, match=r'refused and nothing in it was executed.*\bmkdir\b') as caught:
        CheckpointLoader.load_checkpoint(str(path))
    assert str(path) in str(caught.value) and 'weights_only' not in str(caught.value)
    assert not (tmp_path / 'marker').exists()


@pytest.mark.parametrize(
    'owner, name', [(HistoryBuffer, 'register_statistics'), (torch.Tensor, 'numpy'), (dict, 'pop')]
)
def test_getattr_reaches_only_the_named_methods(tmp_path, owner, name):
    with pytest.raises(pickle.UnpicklingError, match='refused'):
        checkpoint.load_from_local(str(hostile(tmp_path, 'zip', ReadsAttribute(owner, name))))


def test_unknown_type_is_named(tmp_path):
    with pytest.raises(pickle.UnpicklingError, match='Unknown, which is not allowed'):
        checkpoint.load_from_local(str(hostile(tmp_path, 'zip', Unknown())))


def test_object_arrays_are_no_way_around_the_list(tmp_path):
    array = np.array([CreatesFile(tmp_path / 'marker')], dtype=object)
    with pytest.raises(pickle.UnpicklingError, match='refused'):
        checkpoint.load_from_local(str(hostile(tmp_path, 'zip', [array])))
    assert not (tmp_path / 'marker').exists()


def test_restricted_unpickler_refuses_by_itself(tmp_path):
    # The reader for torch < 2.6, checked on every version.
    for protocol in (0, 2, 4):
        content = pickle.dumps(CreatesFile(tmp_path / 'marker'), protocol=protocol)
        with pytest.raises(pickle.UnpicklingError, match='mkdir'):
            checkpoint_types.RestrictedUnpickler(io.BytesIO(content)).load()
    assert not (tmp_path / 'marker').exists()
    content = pickle.dumps(dict(a=np.float64(1)), protocol=2)
    assert checkpoint_types.RestrictedUnpickler(io.BytesIO(content)).load() == dict(a=1.0)


@pytest.mark.parametrize('new_format', [True, False])
@pytest.mark.parametrize('kept', [0, 0.01, 0.5, 0.99])
def test_cut_off_file_names_itself_and_its_size(tmp_path, new_format, kept):
    good, cut = tmp_path / 'epoch_1.pth', tmp_path / 'epoch_2.pth'
    torch.save(dict(state_dict=dict(w=torch.randn(500))), good, _use_new_zipfile_serialization=new_format)
    content = good.read_bytes()
    cut.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(RuntimeError) as caught:
        CheckpointLoader.load_checkpoint(str(cut))
    message = str(caught.value)
    assert f'cannot load checkpoint {cut} ({int(len(content) * kept)} bytes): ' in message


def test_text_file_is_no_checkpoint(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>not found</html>')
    with pytest.raises(RuntimeError, match=r'cannot load checkpoint .*page\.pth'):
        checkpoint.load_from_local(str(path))


def test_torchscript_archive_is_no_checkpoint(tmp_path):
    path = tmp_path / 'script.pth'
    torch.jit.trace(torch.nn.Linear(2, 1), torch.ones(1, 2)).save(str(path))
    with pytest.raises(RuntimeError, match='TorchScript'):
        checkpoint.load_from_local(str(path))


def test_missing_file_is_named(tmp_path):
    for path in (tmp_path / 'epoch_12.pth', tmp_path / 'nowhere' / 'epoch_1.pth'):
        with pytest.raises(FileNotFoundError, match=rf'checkpoint {path} not found'):
            CheckpointLoader.load_checkpoint(str(path))


def test_resume_from_a_stale_last_checkpoint_names_the_missing_file(real_checkpoint, tmp_path):
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_7.pth'))
    with pytest.raises(FileNotFoundError, match=r'epoch_7\.pth not found'):
        make_runner(tmp_path, 'stale', resume=True).train()


def test_fault_of_the_device_is_told_as_it_is(tmp_path):
    path = tmp_path / 'good.pth'
    torch.save(dict(w=torch.ones(2)), path)

    def no_such_device(storage, location):
        raise RuntimeError('no such device')

    with pytest.raises(RuntimeError, match=r'good\.pth .*: no such device$'):
        checkpoint.load_from_local(str(path), no_such_device)


def test_download_is_kept_and_loaded_safely(tmp_path, monkeypatch):
    source, fetched = hostile(tmp_path, 'zip'), []

    def fetch(url, path, progress):
        fetched.append(url)
        with open(path, 'wb') as file:
            file.write(source.read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    for _ in range(2):
        with pytest.raises(pickle.UnpicklingError, match='refused'):
            CheckpointLoader.load_checkpoint('https://example.invalid/weights.pth?x=1')
    assert fetched == ['https://example.invalid/weights.pth?x=1']
    assert (tmp_path / 'home' / 'hub' / 'checkpoints' / 'weights.pth').is_file()
    assert not (tmp_path / 'marker').exists()


def test_model_list_names_lead_to_safe_loading(tmp_path, monkeypatch):
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    mmengine.dump(dict(mine='hostile.pth', theirs='https://example.invalid/w.pth'), tmp_path / 'open_mmlab.json')
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, path, progress: shutil.copy(source, path))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    source = hostile(tmp_path, 'zip')
    for name in ('mine', 'theirs'):
        with pytest.raises((pickle.UnpicklingError, RuntimeError)):
            CheckpointLoader.load_checkpoint(f'openmmlab://{name}')
    assert not (tmp_path / 'marker').exists()


def test_loader_of_the_fork_runs_nothing_that_torch_refuses(tmp_path):
    module = SimpleNamespace(_safe_torch_load=lambda file, **_: torch.load(file, weights_only=False))
    checkpoint.close_fork(module)
    with pytest.raises(pickle.UnpicklingError):
        module._safe_torch_load(hostile(tmp_path, 'zip'), map_location='cpu')
    assert not (tmp_path / 'marker').exists()


@pytest.mark.parametrize('place', ['meta/config', 'meta/cfg', 'message_hub/runtime_info/cfg'])
def test_config_text_of_a_checkpoint_is_not_run(real_checkpoint, tmp_path, place):
    """mmengine would run it as Python: Runner.resume that of meta, BaseInferencer both."""
    loaded = checkpoint.load_from_local(str(real_checkpoint[0] / 'epoch_2.pth'))
    *folders, name = place.split('/')
    holder = functools.reduce(dict.__getitem__, folders, loaded)
    holder[name] = f"__import__('os').mkdir({str(tmp_path / 'marker')!r})"
    torch.save(loaded, tmp_path / 'epoch_2.pth')
    resumed = make_runner(tmp_path, place.replace('/', '-'), resume=True, load_from=str(tmp_path / 'epoch_2.pth'))
    resumed.train()
    assert resumed.iter == 9

    class Inferencer(BaseInferencer):
        pipeline = visualize = postprocess = _init_pipeline = _init_visualizer = lambda *_, **__: None

    with pytest.raises((ValueError, AttributeError)):
        Inferencer(weights=str(tmp_path / 'epoch_2.pth'))
    assert not (tmp_path / 'marker').exists()


def test_text_that_is_run_would_leave_the_marker(tmp_path):
    """Else the test above would hold for text that nobody could run."""
    Config.fromstring(f"__import__('os').mkdir({str(tmp_path / 'marker')!r})", file_format='.py')
    assert (tmp_path / 'marker').exists()


def test_every_flipped_bit_of_the_weights_is_found(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=dict(w=torch.randn(300), v=torch.randn(7))), path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = []
        for member in archive.infolist():
            if '/data/' in member.filename:
                header = member.header_offset
                name, extra = (int.from_bytes(whole[header + i : header + i + 2], 'little') for i in (26, 28))
                start = header + 30 + name + extra
                places += [start, start + member.file_size // 2, start + member.file_size - 1]
    assert len(places) == 6
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(RuntimeError, match=r'epoch_1\.pth is damaged: wrong checksum of .*/data/'):
            CheckpointLoader.load_checkpoint(str(path))
    path.write_bytes(whole)
    assert CheckpointLoader.load_checkpoint(str(path))['state_dict']['w'].shape == (300,)


def test_a_flipped_bit_anywhere_is_an_error_or_changes_nothing(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    state = dict(w=torch.randn(40), v=torch.randn(7))
    torch.save(dict(state_dict=state), path)
    whole, draw, errors = path.read_bytes(), random.Random(0), 0
    for place in draw.sample(range(len(whole)), 250):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = CheckpointLoader.load_checkpoint(str(path))['state_dict']
        except (RuntimeError, pickle.UnpicklingError) as error:
            assert str(path) in str(error)
            errors += 1
        else:
            assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state), place
    assert 0 < errors < 250  # the padding between members counts for nothing


def loaded_with(folder, state, **others):
    """Write a checkpoint and load it as every tool does."""
    torch.save(dict(state_dict=state, **others), folder / 'epoch_1.pth')
    return CheckpointLoader.load_checkpoint(str(folder / 'epoch_1.pth'))


def sound_state():
    return {
        'backbone.conv.weight': torch.randn(2, 3),
        'backbone.bn.running_mean': torch.zeros(2),
        'backbone.bn.running_var': torch.ones(2),
        'backbone.bn.running_mean_0_5': torch.zeros(1),
        'backbone.bn.running_var_0_5': torch.ones(1),
        'backbone.bn.num_batches_tracked': torch.tensor(3),
        'mask': torch.tensor([0.0, -torch.inf]),  # of attention
        'index': torch.arange(3),
        'freqs': torch.ones(2, dtype=torch.complex64),
        'nothing': torch.ones(0),
        'neck._extra_state': None,
    }


def values(fill, dtype=torch.float32):
    return torch.tensor([1, 1, fill, 1, fill, 1], dtype=dtype).view(2, 3)


# PyTorch 2.1 has the type and cannot load it.
FLOAT8 = torch.float8_e5m2 if digit_version(torch.__version__) >= digit_version('2.2') else torch.float16


def test_sound_states_load(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, FLOAT8):
        state = {key: v.to(dtype) if key.endswith('weight') else v for key, v in sound_state().items()}
        assert loaded_with(tmp_path, state)['state_dict'].keys() == state.keys()
    shared = torch.randn(6)
    assert loaded_with(tmp_path, {'a.weight': shared, 'b.weight': shared[2:4]})
    torch.save(sound_state(), tmp_path / 'flat.pth')
    assert CheckpointLoader.load_checkpoint(str(tmp_path / 'flat.pth'), map_location='meta')['mask'].is_meta


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'key, value, told',
    [
        ('backbone.conv.weight', values(NAN), 'NaN in 2 of 6 values of backbone.conv.weight'),
        ('backbone.conv.weight', values(INF, torch.float16), 'infinity in 2 of 6 values of backbone.conv.weight'),
        ('backbone.conv.weight', values(-INF, torch.bfloat16), 'infinity in 2 of 6'),
        ('backbone.conv.weight', values(INF, FLOAT8), 'infinity in 2 of 6'),
        ('backbone.conv.weight', values(1, torch.int8), 'backbone.conv.weight is of type torch.int8'),
        ('backbone.conv.weight', values(1, torch.complex64), 'backbone.conv.weight is of type torch.complex64'),
        ('backbone.conv.weight', values(1).to_sparse(), 'backbone.conv.weight is of .*layout torch.sparse_coo'),
        ('backbone.conv.weight', [[1.0] * 3] * 2, 'backbone.conv.weight is a list'),
        ('backbone.conv.weight', None, 'backbone.conv.weight is a NoneType'),
        ('backbone.fc.bias', torch.ones(2, dtype=torch.bool), 'backbone.fc.bias is of type torch.bool'),
        ('backbone.bn.running_var', torch.tensor([1.0, -1e-9]), '1 of 2 values of the variance .*bn.running_var are'),
        ('backbone.bn.running_var_0_5', torch.tensor([-1.0]), 'variance backbone.bn.running_var_0_5 are negative'),
        ('backbone.bn.running_mean_0_5', torch.tensor([NAN]), 'NaN in 1 of 1 values of backbone.bn.running_mean_0_5'),
        ('backbone.bn.running_mean', torch.zeros(2, dtype=torch.long), 'running_mean is of type torch.int64'),
        ('backbone.bn.running_mean', torch.zeros(3), r'running_mean has shape \(3,\), not \(2,\), beside'),
        ('other.running_var', torch.ones(2), 'other.running_mean is missing, beside other.running_var'),
        ('mask', torch.tensor([0.0, NAN]), 'NaN in 1 of 2 values of mask'),
        ('freqs', torch.tensor([complex(0, NAN), 0]), 'NaN in 1 of 4 values of freqs'),
        (7, torch.ones(1), 'the key 7 is a int'),
    ],
)
@pytest.mark.parametrize('where', ['state_dict', 'ema_state_dict', 'the checkpoint'])
def test_values_that_no_sound_training_writes_are_refused(tmp_path, key, value, told, where):
    state = {**sound_state(), key: value}
    holder = state if where == 'the checkpoint' else {'state_dict': sound_state(), where: state}
    torch.save(holder, tmp_path / 'epoch_1.pth')
    with pytest.raises(RuntimeError, match=told) as caught:
        CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'))
    assert f'{tmp_path / "epoch_1.pth"} cannot be used, its {where} is unsound' in str(caught.value)


def test_the_first_faults_are_named_and_the_others_counted(tmp_path):
    with pytest.raises(RuntimeError, match=r'w0\.weight; .* w1\.weight; .* w2\.weight; and 4 more\. Use an earlier'):
        loaded_with(tmp_path, {f'w{i}.weight': values(NAN) for i in range(7)})


@pytest.mark.parametrize('content', [[1], 'text', torch.ones(2), None])
def test_what_holds_no_state_is_refused(tmp_path, content):
    path = tmp_path / 'epoch_1.pth'
    torch.save(content, path)
    with pytest.raises(RuntimeError, match=r'epoch_1\.pth holds a .*, not a dict'):
        CheckpointLoader.load_checkpoint(str(path))
    with pytest.raises(RuntimeError, match=r'epoch_1\.pth .*, not a dict of tensors'):
        loaded_with(tmp_path, content)
