"""The other methods of the paper: their losses against loops over the formulas, and each config in a short run.

Shapes: N images in each of two views, D embedding dimensions.
"""

import copy
import math

import mmpretrain.models.selfsup.simclr as mmpretrain_simclr
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from builders import ROOT
from us3l_mm.config import load_config, read_config, set_width

pytestmark = pytest.mark.usefixtures('parse_once')

BASELINES, DIGITS = (ROOT / 'configs' / name for name in ('baselines', 'digits'))
METHODS = sorted(path.stem.split('_')[0] for path in DIGITS.glob('*_r18_1xb64-2e_digits.py'))
MAX_ITERS, STEPS = 10, 3  # the momentum networks are tested at one of their later updates
N = 4


def digits_config(method):
    return str(DIGITS / f'{method}_r18_1xb64-2e_digits.py')


def build(method, width=None, **options):
    """Model of a digits config in float64 with small heads, whose every parameter is random."""
    init_default_scope('mmpretrain')
    torch.manual_seed(3)
    cfg = read_config(digits_config(method))
    cfg.model.neck.hid_channels = 24
    cfg.model.merge(options)
    model = MODELS.build(set_width(cfg, width).model).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    return model


def make_views(seed=7, n=N):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, 8, 8, dtype=torch.float64, generator=generator) for _ in range(2)]


# The formulas, one image at a time


def cosine_loss(predictions, targets):
    """Mean of -cos(p, z)."""
    return -sum((p @ z) / (p.norm() * z.norm()) for p, z in zip(predictions, targets)) / len(predictions)


def nt_xent(first, second, temperature=0.5):
    """SimCLR's loss, with gradients on both sides."""
    rows = [z / z.norm() for z in (*first, *second)]
    total = 0
    for i, row in enumerate(rows):
        partner = (i + len(first)) % len(rows)
        others = sum(torch.exp(row @ other / temperature) for j, other in enumerate(rows) if j != i)
        total = total - torch.log(torch.exp(row @ rows[partner] / temperature) / others)
    return total / len(rows)


def info_nce(queries, keys, negatives, temperature=0.2):
    """MoCo's loss: query i against key i, and against negatives, one list for each query."""
    total = 0
    for q, k, others in zip(queries, keys, negatives):
        positive, *rest = (torch.exp((q @ z) / (q.norm() * z.norm()) / temperature) for z in (k, *others))
        total = total - torch.log(positive / (positive + sum(rest)))
    return total / len(queries)


def embed(model, views):
    return [model.neck(model.backbone(view))[0] for view in views]


def moved_teacher(model, name, share):
    """Momentum network after its next update, worked out by hand."""
    teacher = copy.deepcopy(getattr(model, name).module)
    online = [*model.backbone.parameters(), *model.neck.parameters()]
    with torch.no_grad():
        for parameter, new in zip(teacher.parameters(), online, strict=True):
            parameter.copy_((1 - share) * parameter + share * new)
    return teacher


def cosine_share(base):
    """1 - m after ``STEPS`` updates, m going from 1 - base to 1."""
    return base * (1 + math.cos(math.pi * STEPS / MAX_ITERS)) / 2


def simclr(model, views):
    together = torch.stack(views, dim=1).flatten(0, 1)  # both views of an image in turn, in one batch norm
    return nt_xent(*embed(model, [together])[0].unflatten(0, (-1, 2)).unbind(1))


def simsiam(model, views):
    z1, z2 = embed(model, views)
    p1, p2 = (model.head.predictor([z])[0] for z in (z1, z2))
    return (cosine_loss(p1, z2.detach()) + cosine_loss(p2, z1.detach())) / 2


def byol(model, views):
    teacher = moved_teacher(model, 'target_net', cosine_share(0.01))
    p1, p2 = (model.head.predictor([z])[0] for z in embed(model, views))
    z1, z2 = (teacher(view)[0].detach() for view in views)
    return (cosine_loss(p1, z2) + cosine_loss(p2, z1)) / 2


def mocov2(model, views):
    teacher = moved_teacher(model, 'encoder_k', 0.001)
    queries, keys = embed(model, views[:1])[0], teacher(views[1])[0].detach()
    return info_nce(queries, keys, [model.queue.T] * N)


def mocov3(model, views):
    teacher = moved_teacher(model, 'momentum_encoder', cosine_share(0.01))
    q1, q2 = (model.head.predictor([z])[0] for z in embed(model, views))
    k1, k2 = (teacher(view)[0].detach() for view in views)
    loss = 0
    for q, k in ((q1, k2), (q2, k1)):
        loss = loss + 2 * 0.2 * info_nce(q, k, [torch.cat([k[:i], k[i + 1 :]]) for i in range(N)])
    return loss


FORMULAS = dict(simclr=simclr, simsiam=simsiam, byol=byol, mocov2=mocov2, mocov3=mocov3)


def gradients(model, loss):
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found) if g is not None}


def assert_same_loss_and_gradients(model, loss, reference, expected):
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=0)
    got, want = gradients(model, loss), gradients(reference, expected)
    assert got.keys() == want.keys() and len(got) > 30
    for name in got:
        torch.testing.assert_close(got[name], want[name], rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f'{n}: {m}')


@pytest.mark.parametrize('width', [1.0, 0.5])
@pytest.mark.parametrize('method', FORMULAS)
def test_loss_matches_loops(method, width):
    MessageHub.get_current_instance().update_info('max_iters', MAX_ITERS)
    model, views = build(method, width), make_views()
    for name in ('target_net', 'encoder_k', 'momentum_encoder'):
        if hasattr(model, name):  # a teacher that is elsewhere by now
            getattr(model, name).steps.fill_(STEPS)
            with torch.no_grad():
                for parameter in getattr(model, name).parameters():
                    parameter.mul_(1.1).add_(0.1 * torch.rand_like(parameter))
    reference = copy.deepcopy(model)
    assert_same_loss_and_gradients(
        model, model.loss(views, None)['loss'], reference, FORMULAS[method](reference, views)
    )


def test_mocov2_queue_takes_the_keys():
    model, views = build('mocov2', queue_len=3 * N), make_views()
    before = model.queue.clone()
    for step in range(4):
        keys = F.normalize(moved_teacher(model, 'encoder_k', 1.0 if step == 0 else 0.001)(views[1])[0])
        before[:, step % 3 * N : (step % 3 + 1) * N] = keys.T
        model.loss(views, None)
        torch.testing.assert_close(model.queue, before)


def test_simclr_on_several_gpus_has_the_gradient_of_the_joint_batch(monkeypatch):
    """mmpretrain's gradient is 1 / GPUs of it, after DDP's mean: the CIFAR-100 config weights the loss by GPUs."""
    cfg = read_config(BASELINES / 'simclr_r18_4xb128-400e_cifar100.py')
    assert cfg.model.head.loss.loss_weight == cfg.auto_scale_lr.base_batch_size / cfg.train_dataloader.batch_size

    gpus = 2
    model = build('simclr', head=dict(loss=dict(loss_weight=gpus)))
    batches = [make_views(seed) for seed in range(gpus)]
    embeddings = [embed(model, [torch.stack(views, dim=1).flatten(0, 1)])[0] for views in batches]
    joint = nt_xent(*torch.cat(embeddings).unflatten(0, (-1, 2)).unbind(1))
    expected = gradients(model, joint)
    normalised = [F.normalize(z).detach() for z in embeddings]
    found = []
    for rank, views in enumerate(batches):
        monkeypatch.setattr(
            mmpretrain_simclr, 'all_gather', lambda z, r=rank: [z if i == r else o for i, o in enumerate(normalised)]
        )
        monkeypatch.setattr(mmpretrain_simclr, 'get_rank', lambda r=rank: r)
        found.append(gradients(model, model.loss(views, None)['loss']))
    for name, gradient in expected.items():
        torch.testing.assert_close(sum(rank[name] for rank in found) / gpus, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('method, name', [('byol', 'target_net'), ('mocov3', 'momentum_encoder')])
def test_momentum_follows_the_cosine_of_mocov3(method, name):
    """m = 1 - (1 - 0.99) (1 + cos(pi t / T)) / 2 at update t, as MoCo v3's `adjust_moco_momentum`."""
    MessageHub.get_current_instance().update_info('max_iters', MAX_ITERS)
    model = build(method)
    teacher = getattr(model, name)
    weight = teacher.module[0].conv1.weight
    for t in range(MAX_ITERS):
        with torch.no_grad():
            weight.zero_()
        teacher.update_parameters(torch.nn.Sequential(model.backbone, model.neck))
        share = (weight / model.backbone.conv1.weight).mean().item()  # of the online weights
        # Update 0 is mmpretrain's: a plain copy.
        assert share == pytest.approx(0.01 * (1 + math.cos(math.pi * t / MAX_ITERS)) / 2 if t else 1)


@pytest.mark.parametrize('method', ['simsiam', 'byol', 'mocov3'])
def test_base_loss_of_us_net_is_that_of_the_individual_method(method):
    """At full width on the same weights; the teachers are copies of the online networks."""
    individual, us = build(method), build(f'us-{method}')
    us.load_state_dict(individual.state_dict(), strict=False)
    assert {name for name, p in us.named_parameters() if p.requires_grad} == {
        name for name, p in individual.named_parameters() if p.requires_grad
    }
    views = make_views()
    loss = us.loss(views, None, targets=None)['loss']
    assert_same_loss_and_gradients(us, loss, individual, individual.loss(views, None)['loss'])


class Watch(Hook):
    """Notes the losses, and the trained parameters of the backbone before training."""

    def __init__(self):
        self.losses = []

    def before_train(self, runner):
        self.before = {k: p.detach().clone() for k, p in runner.model.backbone.named_parameters() if p.requires_grad}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())

    def untrained(self, runner):
        """Parameters of the backbone that are as they were."""
        parameters = dict(runner.model.backbone.named_parameters())
        return [name for name, before in self.before.items() if torch.equal(parameters[name], before)]


def run(config, work_dir, width=None, **options):
    """Three iterations of 8 images, by the way of tools/train.py."""
    tiny = {
        'train_cfg.max_epochs': 1,
        'train_dataloader.batch_size': 8,
        'train_dataloader.num_workers': 0,
        'train_dataloader.dataset.per_class': 3,
        'train_dataloader.dataset.serialize_data': False,
        'default_hooks.checkpoint.interval': 1,
        'log_level': 'WARNING',
        'vis_backends': [],
        'visualizer.vis_backends': [],
    }
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        # What a Runner writes down before it trains takes longer than three iterations.
        patch.setattr(Runner, '_log_env', lambda *_: None)
        patch.setattr(Config, 'pretty_text', '')
        runner = Runner.from_cfg(load_config(str(config), {**tiny, **options}, str(work_dir), width=width))
        runner.register_hook(watch)
        runner.train()
    return runner, watch


def is_individual(method):
    return not method.startswith(('us', 'snet'))


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """Checkpoint of a full-width BYOL network."""
    folder = tmp_path_factory.mktemp('teacher')
    run(digits_config('byol'), folder)
    return str(folder / 'epoch_1.pth')


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_config_trains_every_parameter_of_the_backbone(method, tmp_path, request):
    options = {'train_dataloader.drop_last': True}
    if method.startswith('seed'):
        options['model.teacher.checkpoint'] = request.getfixturevalue('teacher')
    runner, watch = run(digits_config(method), tmp_path, 0.5 if is_individual(method) else None, **options)
    assert len(watch.losses) == 3 and all(map(math.isfinite, watch.losses))
    assert runner.model.backbone.width == (0.5 if is_individual(method) else None)
    assert len(watch.before) > 30
    assert watch.untrained(runner) == []


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['mbv2', 'vit-tiny'])
def test_us3l_of_other_backbones_trains_every_parameter(backbone, tmp_path):
    config = DIGITS / f'{backbone}_1xb64-2e_digits.py'
    runner, watch = run(config, tmp_path, **{'train_dataloader.drop_last': True})
    assert len(watch.losses) == 3 and all(map(math.isfinite, watch.losses))
    assert watch.untrained(runner) == []


@pytest.mark.slow
def test_linear_evaluation_of_an_individual_network_trains_the_head_only(tmp_path):
    run(digits_config('simclr'), tmp_path / 'pretrain', 0.5)
    checkpoint = str(tmp_path / 'pretrain/epoch_1.pth')
    config = DIGITS / 'r18_1xb128-20e_digits.py'
    options = {
        'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
        'model.backbone.width': 0.5,
        'model.widths': [0.5],
        'train_cfg.val_interval': 1,
    }
    runner, _ = run(config, tmp_path / 'linear', None, **options)
    trained = {name for name, parameter in runner.model.named_parameters() if parameter.requires_grad}
    assert trained == {'heads.0_5.fc.weight', 'heads.0_5.fc.bias'}
    given = torch.load(checkpoint, weights_only=True)['state_dict']
    for name, tensor in runner.model.backbone.state_dict().items():  # batch-norm statistics too
        assert torch.equal(tensor, given[f'backbone.{name}']), name
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1_w0.5').current() <= 100
