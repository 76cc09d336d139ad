"""Learning rates that follow the batch, and LARS."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from builders import ROOT
from us3l_mm.config import read_config

pytestmark = pytest.mark.usefixtures('parse_once')

LARS = ROOT / 'configs/us3l/r50_32xb128-lars.py'


def lars_model():
    cfg = read_config(LARS)
    init_default_scope(cfg.default_scope)
    small = dict(in_channels=64, hid_channels=16, out_channels=8)
    cfg.model.backbone.update(stem_channels=8, base_channels=2)
    for part in (cfg.model.neck, cfg.model.head.predictor, cfg.model.distill_predictor):
        part.update(small, in_channels=64 if part is cfg.model.neck else 8)
    return cfg, MODELS.build(cfg.model)


def test_lars_leaves_out_norms_and_biases():
    """Every other weight has a rate of its own; of the teacher nothing is trained."""
    cfg, model = lars_model()
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    excluded = {id(p) for group in groups for p in group['params'] if group.get('lars_exclude')}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group['params']) for group in groups) == len(trained)
    assert not any(name.startswith('teacher.') for name in trained)
    for name, parameter in trained.items():
        is_norm = isinstance(model.get_submodule(name.rpartition('.')[0]), nn.modules.batchnorm._BatchNorm)
        assert (id(parameter) in excluded) == (is_norm or name.endswith('bias')), name
    assert {p.dim() for p in trained.values() if id(p) in excluded} == {1}


def test_a_step_of_lars_is_the_formula():
    """Rate times 0.001 |w| / |g| for a weight, the plain rate for a norm; decay is the group regularisation's."""
    cfg, model = lars_model()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    weight, norm = model.backbone.conv1.weight, model.backbone.bn1.weight
    before = [weight.detach().clone(), norm.detach().clone()]
    torch.manual_seed(0)
    for parameter in (weight, norm):
        parameter.grad = torch.randn_like(parameter)
    wrapper.step()
    local = 1e-3 * before[0].norm() / weight.grad.norm()
    torch.testing.assert_close(weight.detach(), before[0] - 7.2 * local * weight.grad)
    torch.testing.assert_close(norm.detach(), before[1] - 7.2 * norm.grad)


@pytest.mark.slow
@pytest.mark.parametrize(('batch', 'rate'), [(128, 7.2 / 32), (512, 7.2 / 8)])
def test_auto_scaling_is_linear_in_the_batch(batch, rate, tmp_path):
    """A batch trained in parts counts as a whole: the Runner sees the batch of its data loader."""
    cfg, _ = lars_model()
    cfg.merge_from_dict({'train_dataloader.batch_size': batch, 'model.micro_batches': batch // 128})
    cfg.update(work_dir=str(tmp_path), auto_scale_lr=dict(cfg.auto_scale_lr, enable=True), custom_hooks=[])
    runner = Runner.from_cfg(cfg)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner.scale_lr(wrapper, cfg.auto_scale_lr)
    rates = [group['lr'] for group in wrapper.optimizer.param_groups]
    assert rates == pytest.approx([rate] * len(rates))
