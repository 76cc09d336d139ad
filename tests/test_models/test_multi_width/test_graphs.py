"""Iterations by CUDA graphs equal eager ones: on a CPU by a stand-in, on a GPU by themselves."""

import copy
import pickle

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from builders import ABLATIONS, ScalingOptimWrapper, make_optimizer, make_us3l, make_views
from recorded_graph import record
from us3l_mm.models import SlimmableClassifier
from us3l_mm.models.multi_width.training import obstacles
from us3l_mm.slim import SlimmableConv2d, SwitchableBatchNorm2d
from us3l_mm.utils.captured import Captured

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
ITERATIONS = 8
NORM = dict(type='BN1d')  # its running statistics change in place in the forward pass
WAYS = {
    'all momentum targets': (17, {}),
    'online targets': (14, {}),
    'online base, own targets': (9, {}),
    'no distillation, a teacher at each width': (3, dict(momentum_end=1.0)),
    'both views': (13, dict(same_view_weight=0.3, width_power=1.0)),
    'micro batches': (16, dict(micro_batches=2)),
    'one update an iteration': (17, dict(update='accumulate')),
    'one update, micro batches': (14, dict(update='accumulate', micro_batches=2)),
}


def train(model, set_time, device='cpu', optimizer=None):
    """Train on views whose number changes once, as in the last batch of an epoch; return the logs."""
    optimizer = make_optimizer(model) if optimizer is None else optimizer
    views = [*make_views(ITERATIONS - 2), *make_views(2, n=6)]
    logs = []
    for iteration, pair in enumerate(views):
        set_time(iteration, ITERATIONS, iteration, ITERATIONS)
        inputs = [view.to(device, next(model.parameters()).dtype) for view in pair]
        logs.append(model.train_step(dict(inputs=inputs), optimizer))
    return logs


def assert_equal(model, other, logs, others):
    """Weights, buffers and logs equal bit for bit."""
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for mine, theirs in zip(logs, others, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert float(value) == float(theirs[name]), name


@pytest.mark.parametrize('way', WAYS)
def test_recorded_training_equals_eager_training(way, set_time):
    """Of a few widths, in two stages; the recorder spoils all memory of a graph after each run."""
    case, options = WAYS[way]
    sampler = dict(width_step=0.25, num_stages=2)
    eager = make_us3l(ABLATIONS[case], norm_cfg=NORM, sampler=sampler, **options)
    graphs = copy.deepcopy(eager)
    captures = []

    def capture(function):
        captures.append(function)
        return record(function)

    graphs.graphs = Captured(graphs, capture)
    optimizers = [make_optimizer(model) for model in (graphs, eager)]
    counts = []
    for _ in range(3):
        logs = [train(model, set_time, optimizer=own) for model, own in zip((graphs, eager), optimizers)]
        assert_equal(graphs, eager, *logs)
        counts.append(len(captures))
    assert counts[0] > 0 and counts[1] == counts[2]  # what came once in the first training has come again


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = SlimmableConv2d(3, 16, 3, rounding='int')
        self.norm = SwitchableBatchNorm2d(16, widths=(0.5,))

    def forward(self, x):
        return (self.norm(self.conv(x)).relu(),)


@pytest.mark.parametrize('distill', [False, True])
def test_recorded_supervised_training_equals_eager_training(distill, set_time):
    """Labels come in data samples; switchable batch norm counts batches in place."""
    torch.manual_seed(0)
    model = SlimmableClassifier(
        backbone=Net(),
        head=dict(type='us3l_mm.SlimmableLinearClsHead', num_classes=5, in_channels=16),
        data_preprocessor=dict(mean=[127.0] * 3, std=[60.0] * 3),
        eval_widths=(1.0, 0.5),
        sampler=dict(widths=(1.0, 0.5), dynamic=False),
        distill=distill,
    ).train()
    other = copy.deepcopy(model)
    other.graphs = Captured(other, record)
    logs = []
    for trained in (model, other):
        optimizer = OptimWrapper(torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9))
        generator = torch.Generator().manual_seed(0)
        logs.append([])
        for iteration in range(4):
            set_time(iteration, 4, iteration, 4)
            images = torch.randint(256, (6, 3, 9, 9), generator=generator, dtype=torch.uint8)
            labels = torch.randint(5, (6,), generator=generator).tolist()
            samples = [DataSample(metainfo=dict(path=f'{iteration}.png')).set_gt_label(label) for label in labels]
            logs[-1].append(trained.train_step(dict(inputs=images, data_samples=samples), optimizer))
    assert_equal(model, other, *logs)


def test_values_kept_from_an_iteration_stay_as_they_were(set_time):
    """Hooks read losses some iterations later."""
    model = make_us3l(ABLATIONS[14], sampler=dict(widths=(1.0, 0.5), dynamic=False))
    model.graphs = Captured(model, record)
    optimizer, kept = make_optimizer(model), []
    for iteration, views in enumerate(make_views(4)):
        set_time(iteration, 4, iteration, 4)
        logs = model.train_step(dict(inputs=views), optimizer)
        kept.append((logs, {name: float(value) for name, value in logs.items()}))
    for logs, values in kept:
        assert {name: float(value) for name, value in logs.items()} == values
    assert len({values['loss'] for _, values in kept}) == 4


def test_copies_and_files_of_a_model_have_no_graphs(set_time):
    model = make_us3l(ABLATIONS[9], sampler=dict(widths=(1.0, 0.5), dynamic=False))
    model.graphs = Captured(model, record)
    train(model, set_time)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.graphs is None
        assert torch.equal(other.backbone.conv1.weight, model.backbone.conv1.weight)


def test_weights_that_move_are_followed(set_time):
    models = [make_us3l(ABLATIONS[14], sampler=dict(widths=(1.0, 0.5), dynamic=False)) for _ in range(2)]
    models[1].graphs = Captured(models[1], record)
    expected, logs = (train(model, set_time) for model in models)
    for model in models:
        for parameter in model.parameters():
            parameter.data = 0.9 * parameter.data
    assert_equal(*models, expected, logs)
    assert_equal(*models, *(train(model, set_time) for model in models))


def unfreeze(model, iteration):
    for parameter in model.backbone.conv1.parameters():
        parameter.requires_grad_(iteration >= 3)


def freeze(model, iteration):
    for parameter in model.backbone.layer1.parameters():
        parameter.requires_grad_(iteration < 3)


def replace(model, iteration):
    if iteration == 3:
        model.backbone.conv1.weight = nn.Parameter(0.9 * model.backbone.conv1.weight.data)


def evaluate_a_part(model, iteration):
    model.neck.bn0.train(iteration < 3)


@pytest.mark.parametrize('change', [unfreeze, freeze, replace, evaluate_a_part])
def test_what_hooks_change_is_followed(change, set_time):
    models = [make_us3l(ABLATIONS[14], norm_cfg=NORM, sampler=dict(widths=(1.0, 0.5), dynamic=False)) for _ in range(2)]
    models[1].graphs = Captured(models[1], record)
    logs = []
    for model in models:
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
        logs.append([])
        for iteration, views in enumerate(make_views(7)):
            set_time(iteration, 7, iteration, 7)
            change(model, iteration)
            logs[-1].append(model.train_step(dict(inputs=views), optimizer))
    assert_equal(*models, *logs)


@pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='needs a loss scale on a CPU, of PyTorch 2.3')
def test_one_model_trained_by_several_wrappers(set_time):
    """Clipped, then with a loss scale that grows, then with neither, each in graphs of its own."""
    wrappers = [lambda sgd: OptimWrapper(sgd, clip_grad=dict(max_norm=0.1)), ScalingOptimWrapper, OptimWrapper]
    models = [make_us3l(ABLATIONS[17], sampler=dict(widths=(1.0, 0.5), dynamic=False)) for _ in range(2)]
    models[1].graphs = Captured(models[1], record)
    for wrapper in wrappers:
        logs = [
            train(model, set_time, optimizer=wrapper(torch.optim.SGD(model.parameters(), lr=0.05))) for model in models
        ]
        assert_equal(*models, *logs)


def test_the_number_of_micro_batches_may_change(set_time):
    models = [make_us3l(ABLATIONS[17], sampler=dict(widths=(1.0, 0.5), dynamic=False)) for _ in range(2)]
    models[1].graphs = Captured(models[1], record)
    logs = []
    for model in models:
        optimizer = make_optimizer(model)
        logs.append([])
        for iteration, count in enumerate((2, 2, 2, 4, 4, 4)):
            set_time(iteration, 6, iteration, 6)
            model.micro_batches = count
            views = make_views(1, n=2 * count)[0]
            logs[-1].append(model.train_step(dict(inputs=views), optimizer))
    assert_equal(*models, *logs)


class Replaces(nn.Module):
    """Counts in a buffer that it replaces."""

    def __init__(self):
        super().__init__()
        self.register_buffer('count', torch.zeros(()))

    def forward(self, x):
        self.count = self.count + 1
        return x * self.count


def test_a_module_that_replaces_buffers_is_refused():
    module = Replaces()
    captured = Captured(module, record)
    captured('key', module, torch.ones(2))
    with pytest.raises(RuntimeError, match=r'Replaces.*puts new tensors in the place of buffers.*speed=.eager'):
        captured('key', module, torch.ones(2))


def test_what_cannot_be_captured_says_so():
    def fail(function):
        raise RuntimeError('operation not permitted when stream is capturing')

    captured = Captured(capture=fail)
    assert captured('key', lambda x: x + 1, torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(RuntimeError, match=r'cannot capture a CUDA graph \(operation not permitted.*speed=.eager'):
        captured('key', lambda x: x + 1, torch.ones(2))


@pytest.mark.parametrize('speed', ['graphs', 'compiled'])
def test_any_width_is_refused(speed, monkeypatch):
    monkeypatch.setattr('us3l_mm.models.multi_width.training.CAN_COMPILE', True)
    with pytest.raises(ValueError, match=f"speed='{speed}' needs few widths.*set sampler.width_step, such as 0.05"):
        make_us3l(ABLATIONS[17], speed=speed)


def test_an_old_pytorch_is_not_to_compile(monkeypatch):
    monkeypatch.setattr('us3l_mm.models.multi_width.training.CAN_COMPILE', False)
    with pytest.raises(ValueError, match=r"speed='compiled' needs PyTorch 2.3, got .*: set speed='eager'"):
        make_us3l(ABLATIONS[17], speed='compiled', sampler=dict(widths=(1.0, 0.5)))


@pytest.mark.parametrize('wrong', [None, True, 'fast', dict()])
def test_other_speeds_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match='speed must be'):
        make_us3l(ABLATIONS[17], speed=wrong)


def test_a_cpu_is_refused(set_time):
    model = make_us3l(ABLATIONS[17], speed='graphs', sampler=dict(widths=(1.0, 0.5)))
    set_time(0, 4, 0, 4)
    with pytest.raises(ValueError, match=r"speed='graphs' trains by CUDA graphs, which need a GPU.*speed='eager'"):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))


HOOKS = {
    'forward': lambda model: model.neck.register_forward_hook(print),
    'before forward': lambda model: model.neck.register_forward_pre_hook(print),
    'backward': lambda model: model.neck.register_full_backward_hook(print),
    'before backward': lambda model: model.neck.register_full_backward_pre_hook(print),
    'gradient': lambda model: model.backbone.conv1.weight.register_hook(print),
    'accumulated gradient': lambda model: model.backbone.conv1.weight.register_post_accumulate_grad_hook(print),
    'checkpointing': lambda model: setattr(model.backbone.layer1[0], 'with_cp', True),
}


@pytest.mark.parametrize('name', HOOKS)
def test_what_a_replay_would_leave_out_is_refused(name):
    """Each is one more reason than those of the model alone, which is on a CPU here."""
    model = make_us3l(ABLATIONS[17])
    before = list(obstacles(model, model))
    HOOKS[name](model)
    (found,) = [what for what in obstacles(model, model) if what not in before]
    assert 'remove' in found or 'with_cp=False' in found
    assert 'without Sequential' in list(obstacles(model, nn.Sequential(model)))[1]  # another wrapper, such as DDP


@pytest.mark.gpu
@pytest.mark.parametrize('way', WAYS)
def test_graphs_equal_eager_training_on_a_gpu(way, set_time, monkeypatch):
    """Bit for bit, by deterministic kernels."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)
    case, options = WAYS[way]
    sampler = dict(width_step=0.25, num_stages=2)
    eager = make_us3l(ABLATIONS[case], norm_cfg=NORM, sampler=sampler, **options).float().cuda()
    graphs = make_us3l(ABLATIONS[case], norm_cfg=NORM, sampler=sampler, speed='graphs', **options).float().cuda()
    for _ in range(2):
        expected = train(eager, set_time, 'cuda')
        assert_equal(graphs, eager, train(graphs, set_time, 'cuda'), expected)
