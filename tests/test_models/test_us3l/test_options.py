"""Options of US3L, the time that it takes from the Runner, and what it refuses."""

import pytest
import torch

from builders import ABLATIONS, make_optimizer, make_us3l, make_views, us3l_cfg
from us3l_mm.models import US3L

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


@pytest.mark.parametrize('by_epoch, width', [(True, 0.5), (False, 0.75)])
def test_stages_are_counted_in_epochs_or_iterations(by_epoch, width, set_time):
    model = make_us3l(ABLATIONS[13], by_epoch=by_epoch)
    set_time(30, 100, 5, 8)  # iteration: stage 1 of 4; epoch: stage 2
    logs = model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))
    assert logs['width_narrowest'] == pytest.approx(width)


def test_training_without_a_runner_is_refused():
    model = make_us3l(ABLATIONS[13])
    with pytest.raises(RuntimeError, match='takes the time of training from the Runner'):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model))


@pytest.mark.parametrize('how_many', [1, 3])
def test_other_than_two_views_are_refused(how_many, set_time):
    model = make_us3l(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    views = [torch.randn(4, 3, 8, 8, dtype=torch.float64)] * how_many
    with pytest.raises(ValueError, match=f'needs two views of each image, got {how_many}; see the MultiView'):
        model.train_step(dict(inputs=views), make_optimizer(model))


def test_a_single_tensor_is_refused(set_time):
    model = make_us3l(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    with pytest.raises(ValueError, match='needs two views of each image, got a single tensor'):
        model.train_step(dict(inputs=torch.randn(2, 3, 8, 8).double()), make_optimizer(model))


def test_batch_of_one_image_is_refused(set_time):
    model = make_us3l(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match='at least 2 images per process and micro batch, got 1.*drop_last=True'):
        model.train_step(dict(inputs=make_views(1, n=1)[0]), make_optimizer(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradient_accumulation_of_the_optim_wrapper_is_refused(set_time):
    model = make_us3l(ABLATIONS[13])
    set_time(0, 4, 0, 4)
    with pytest.raises(ValueError, match='accumulative_counts must be 1'):
        model.train_step(dict(inputs=make_views(1)[0]), make_optimizer(model, accumulative_counts=2))


def test_loss_outside_an_iteration_names_the_wrapper():
    model = make_us3l(ABLATIONS[13])
    with pytest.raises(RuntimeError, match='us3l_mm.US3LDistributedDataParallel'):
        model(make_views(1)[0], mode='loss')


def test_tensor_mode_gives_the_features():
    model = make_us3l(ABLATIONS[13])
    x = make_views(1)[0][0]
    (features,) = model(x)
    assert torch.equal(features, model.backbone(x)[0]) and features.size(1) == 64


@pytest.mark.parametrize('option', ['base_target', 'sub_target', 'update'])
def test_unknown_options_are_refused(option):
    cfg = us3l_cfg(ABLATIONS[13])
    cfg[option] = 'sometimes'
    with pytest.raises(ValueError, match=f"{option} must be one of .* got 'sometimes'"):
        US3L(**cfg)


def test_auxiliary_head_without_distillation_is_refused():
    with pytest.raises(ValueError, match='distill_predictor needs a distill_loss'):
        US3L(**us3l_cfg(('nce', None, True, True, True)))


def test_same_view_term_needs_distillation_and_a_share():
    with pytest.raises(ValueError, match='same_view_weight needs a distill_loss'):
        US3L(**us3l_cfg(ABLATIONS[9], same_view_weight=0.5))
    with pytest.raises(ValueError, match=r'same_view_weight must be in \[0, 1\], got 1.5'):
        US3L(**us3l_cfg(ABLATIONS[13], same_view_weight=1.5))


def test_backbone_that_splits_its_channels_at_fixed_places_is_refused_when_the_model_is_built():
    cfg = us3l_cfg(ABLATIONS[13])
    cfg['backbone'] = dict(
        type='Res2Net',
        depth=50,
        base_width=16,
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d'),
        norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d'),
    )
    with pytest.raises(ValueError, match=r'Res2Net cannot run at width 0\.25 .*docs/backbones\.md'):
        US3L(**cfg)
    US3L(**{**cfg, 'sampler': dict(widths=[1.0])})


@pytest.mark.parametrize('with_bias', [(True,), (True, False, True)])
def test_neck_refuses_another_number_of_biases(with_bias):
    cfg = us3l_cfg(ABLATIONS[13])
    cfg['neck']['with_bias'] = with_bias
    with pytest.raises(ValueError, match='with_bias needs 2 values'):
        US3L(**cfg)
