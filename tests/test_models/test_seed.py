"""A frozen teacher of another size and a student at a width of its own."""

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper

from us3l_mm.models import SEED, SlimmableNonLinearNeck, SlimmableResNet_CIFAR

pytestmark = [pytest.mark.usefixtures('parse_once'), pytest.mark.usefixtures('mmpretrain_scope')]

TEACHER = dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=50, width=1.0, stem_channels=8, base_channels=8)
NECK = dict(hid_channels=16, out_channels=12, num_layers=2, with_bias=True, with_last_bn=False, with_last_bias=True)
PREDICTOR = dict(
    type='NonLinearNeck',
    in_channels=12,
    hid_channels=16,
    out_channels=12,
    with_last_bn=False,
    with_last_bias=True,
    with_avg_pool=False,
)
HEADS = {
    'SEED': dict(
        type='LatentPredictHead',
        loss=dict(type='us3l_mm.SEEDLoss', queue_len=16, feat_dim=12, teacher_temperature=0.1),
        predictor=dict(type='torch.nn.Identity'),
    ),
    'SEED-MSE': dict(type='LatentPredictHead', loss=dict(type='CosineSimilarityLoss'), predictor=PREDICTOR),
}


def necks(channels):
    return dict(type='us3l_mm.SlimmableNonLinearNeck', in_channels=channels, **NECK)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Teacher with statistics, as mmpretrain's own algorithms save one."""
    torch.manual_seed(9)
    backbone, neck = teacher_parts()
    backbone.train()
    for _ in range(3):
        backbone(torch.randn(8, 3, 16, 16))
    state = {f'backbone.{name}': tensor for name, tensor in backbone.state_dict().items()}
    state |= {f'neck.{name}': tensor for name, tensor in neck.state_dict().items()}
    state['head.predictor.fc0.weight'] = torch.zeros(3)  # of no concern to a student
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(dict(state_dict=state, meta={}), path)
    return str(path)


def teacher_parts():
    arguments = {key: value for key, value in TEACHER.items() if key != 'type'}
    return SlimmableResNet_CIFAR(**arguments), SlimmableNonLinearNeck(in_channels=256, **NECK)


def build(checkpoint, method='SEED', **teacher):
    torch.manual_seed(0)
    model = SEED(
        data_preprocessor=BaseDataPreprocessor(),
        backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, width=0.5, stem_channels=16, base_channels=16),
        neck=necks(64),
        head=HEADS[method],
        teacher={'backbone': TEACHER, 'neck': necks(256), 'checkpoint': checkpoint, **teacher},
    )
    model.init_weights()
    return model.train()


def views(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, 16, 16, generator=generator) for _ in range(2)]


@pytest.mark.parametrize('method', HEADS)
def test_loss_is_the_mean_over_views_against_the_teacher_in_evaluation_mode(method, checkpoint):
    model, inputs = build(checkpoint, method), views()
    backbone, neck = teacher_parts()
    state = torch.load(checkpoint)['state_dict']
    backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')})
    neck.load_state_dict({k.removeprefix('neck.'): v for k, v in state.items() if k.startswith('neck.')})
    backbone.eval(), neck.eval()
    losses, queue = [], model.head.loss_module.queue.clone() if method == 'SEED' else None
    for view in inputs:
        with torch.no_grad():
            t = torch.nn.functional.normalize(neck(backbone(view))[0])
            z = model.neck(model.backbone(view))[0]
            if method == 'SEED':
                s = torch.nn.functional.normalize(z)
                wanted = torch.cat([(t * t).sum(1, keepdim=True), t @ queue.T], 1).div(0.1).softmax(1)
                got = torch.cat([(s * t).sum(1, keepdim=True), s @ queue.T], 1).div(0.5).log_softmax(1)
                losses.append(-(wanted * got).sum(1).mean().item())
                queue = queue.roll(-4, 0).index_copy(0, torch.arange(12, 16), t)  # any order of the entries will do
            else:
                p = torch.nn.functional.normalize(model.head.predictor([z])[0])
                losses.append(-(p * t).sum(1).mean().item())
    loss = model.loss(inputs, None)['loss']
    assert loss.item() == pytest.approx(sum(losses) / 2, rel=1e-4)


@pytest.mark.parametrize('method', HEADS)
def test_training_moves_the_student_only(method, checkpoint):
    model = build(checkpoint, method)
    optimizer = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for seed in range(2):
        logs = model.train_step(dict(inputs=views(seed=seed)), optimizer)
    assert logs['loss'].isfinite()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in changed if name.startswith('teacher.')]
    assert {name for name, p in model.named_parameters() if p.requires_grad and name.startswith('backbone')} <= changed


def test_teacher_stays_in_evaluation_mode(checkpoint):
    model = build(checkpoint)
    assert model.training and not any(part.training for part in model.teacher.modules())
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())


def test_missing_entry_of_the_teacher_is_named(checkpoint):
    with pytest.raises(ValueError, match="teacher must be a dict with 'backbone' and 'neck' and 'checkpoint'"):
        SEED(backbone=dict(), neck=dict(), head=dict(), teacher=dict(backbone=TEACHER, checkpoint=checkpoint))


WRONG = {
    'another depth': (dict(backbone={**TEACHER, 'depth': 18}), 'its backbone does not fit'),
    'another size': (dict(backbone={**TEACHER, 'base_channels': 16}), 'its backbone does not fit'),
    'another projector': (dict(neck=necks(256) | dict(hid_channels=24)), 'its neck does not fit'),
    'a projector more': (dict(neck=necks(256) | dict(num_layers=3)), 'its neck does not fit'),
}


@pytest.mark.parametrize('case', WRONG)
def test_checkpoint_of_another_teacher_is_an_error(case, checkpoint):
    teacher, message = WRONG[case]
    with pytest.raises(RuntimeError, match=f'is no checkpoint of this teacher: {message}'):
        build(checkpoint, **teacher)


def test_checkpoint_without_a_backbone_or_neck_is_an_error(checkpoint, tmp_path):
    state = torch.load(checkpoint)['state_dict']
    for kept, lost in (('backbone', 'neck'), ('neck', 'backbone')):
        path = tmp_path / f'{kept}.pth'
        torch.save(dict(state_dict={k: v for k, v in state.items() if k.startswith(kept)}), path)
        with pytest.raises(RuntimeError, match=f"its {lost} does not fit: it has no entry that starts with '{lost}'"):
            build(str(path))


def test_slimmable_teacher_without_statistics_is_an_error(checkpoint, tmp_path):
    arguments = {key: value for key, value in TEACHER.items() if key not in ('type', 'width')}
    slimmable = SlimmableResNet_CIFAR(**arguments)
    state = {f'backbone.{name}': tensor for name, tensor in slimmable.state_dict().items()}
    state |= {k: v for k, v in torch.load(checkpoint)['state_dict'].items() if k.startswith('neck')}
    path = tmp_path / 'uncalibrated.pth'
    torch.save(dict(state_dict=state), path)
    with pytest.raises(RuntimeError, match=r'no batch-norm statistics .*us3l calibrate'):
        build(str(path))


def test_missing_checkpoint_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        build(str(tmp_path / 'nothing.pth'))
