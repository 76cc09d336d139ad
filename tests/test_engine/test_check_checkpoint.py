"""Checks of checkpoints: sound ones of every optimizer pass, and each thing that is wrong is named."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule, ExponentialMovingAverage
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper, OptimWrapperDict
from mmpretrain.engine.optimizers import LARS, Lamb
from torch import nn

from us3l_mm.engine import CheckLoadedHook
from us3l_mm.engine.check_checkpoint import check_training_checkpoint, missing_parts
from us3l_mm.models import SlimmableResNet_CIFAR
from us3l_mm.slim import SlimmableBatchNorm2d, calibrate_bn

EPOCHS, LENGTH = 4, 3
LOOP = SimpleNamespace(max_epochs=EPOCHS, max_iters=EPOCHS * LENGTH)


class ScaledWrapper(OptimWrapper):
    """As AmpOptimWrapper, which wants a GPU."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.loss_scaler = torch.amp.GradScaler('cpu')

    def state_dict(self):
        return {**super().state_dict(), 'loss_scaler': self.loss_scaler.state_dict()}


class Run:
    """Parts of a training as a Runner builds them, without a Runner."""

    def __init__(self, optimizer=torch.optim.AdamW, wrapper=OptimWrapper, epochs=EPOCHS, **options):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        params = list(self.model.parameters())
        groups = [dict(params=params[:4]), dict(params=params[4:], lr=0.2)]
        self.wrapper = wrapper(optimizer(groups, lr=0.1, **options))
        self.schedulers = [
            LinearLR(self.wrapper, start_factor=0.5, by_epoch=False, begin=0, end=2),
            CosineAnnealingLR(self.wrapper, T_max=epochs, by_epoch=True, begin=0, end=epochs),
        ]

    def train(self, epochs=1):
        for _ in range(epochs):
            for _ in range(LENGTH):
                self.model(torch.randn(4, 2)).square().mean().backward()
                self.wrapper.step()
                self.wrapper.zero_grad()
                self.schedulers[0].step()
            self.schedulers[1].step()
        return self

    def checkpoint(self, epoch=1):
        iteration = epoch * LENGTH
        info = dict(epoch=epoch - 1, iter=iteration - 1, seed=7, max_epochs=EPOCHS, max_iters=EPOCHS * LENGTH)
        resumed = dict.fromkeys([*info, 'train/loss', 'cfg'], True)
        optimizer = self.wrapper.state_dict()
        whole = dict(
            meta=dict(epoch=epoch, iter=iteration, seed=7, optimizer_states={'': len(optimizer['state'])}),
            state_dict=self.model.state_dict(),
            message_hub=dict(log_scalars={'train/loss': HistoryBuffer()}, runtime_info=info, resumed_keys=resumed),
            optimizer=optimizer,
            param_schedulers=[scheduler.state_dict() for scheduler in self.schedulers],
        )
        return copy.deepcopy(whole)

    def check(self, checkpoint, loop=LOOP, **options):
        check_training_checkpoint(checkpoint, self.model, self.wrapper, self.schedulers, loop, **options)


OPTIMIZERS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, dict(momentum=0.9, nesterov=True, weight_decay=0.1)),
    (torch.optim.Adam, dict(weight_decay=0.1)),
    (torch.optim.AdamW, dict(amsgrad=True)),
    (torch.optim.Adamax, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.RAdam, {}),
    (torch.optim.Adadelta, {}),
    (torch.optim.Adagrad, {}),
    (torch.optim.ASGD, {}),
    (torch.optim.Rprop, {}),
    (torch.optim.RMSprop, dict(momentum=0.9, centered=True)),
    (LARS, dict(momentum=0.9)),
    (Lamb, {}),
]


@pytest.mark.parametrize('optimizer, options', OPTIMIZERS)
@pytest.mark.parametrize('wrapper', [OptimWrapper, ScaledWrapper])
def test_own_checkpoints_of_every_optimizer_pass_and_change_nothing(optimizer, options, wrapper):
    run = Run(optimizer, wrapper, **options)
    saved = Run(optimizer, wrapper, **options).train().checkpoint()
    before = [str(part) for part in (run.model.state_dict(), run.wrapper.state_dict(), saved)]
    run.check(saved)
    run.check(Run(optimizer, wrapper, **options).train(3).checkpoint(3))
    assert before == [str(part) for part in (run.model.state_dict(), run.wrapper.state_dict(), saved)]
    run.wrapper.optimizer.load_state_dict(saved['optimizer'])  # a run that has state checks as one that has none
    run.check(saved)


def put(*path, value):
    """A change of one entry of a checkpoint: another value, or its function."""

    def change(checkpoint):
        *holders, key = path
        for name in holders:
            checkpoint = checkpoint[name]
        if value is DELETED:
            del checkpoint[key]
        else:
            checkpoint[key] = value(checkpoint[key]) if callable(value) else value

    return change


DELETED = object()
STATE, GROUP = ('optimizer', 'state'), ('optimizer', 'param_groups', 1)
PLAN, INFO = ('param_schedulers', 1), ('message_hub', 'runtime_info')
WRONG = [
    (
        put('optimizer', value=DELETED),
        'it has no optimizer, it is weights for other uses. Give a checkpoint that a tra',
    ),
    (put('message_hub', value=DELETED), 'it has no message_hub, it is damaged'),
    (put('meta', value=[1]), 'meta is a list, not a dict'),
    (put('meta', 'epoch', value=DELETED), 'meta.epoch is missing'),
    (put('meta', 'epoch', value='1'), "meta.epoch is '1', not a whole number from 0"),
    (put('meta', 'epoch', value=True), 'meta.epoch is True'),
    (put('meta', 'epoch', value=5), 'meta.epoch is 5, this run ends at 4'),
    (put('meta', 'epoch', value=2), 'meta.epoch is 2, message_hub.runtime_info.epoch is 0'),
    (put('meta', 'epoch', value=0), r'param_schedulers\[1\]._global_step is 1, not 0, which belongs to meta.epoch 0'),
    (put('meta', 'iter', value=-3), 'meta.iter is -3'),
    (put('meta', 'iter', value=4), 'meta.iter is 4, message_hub.runtime_info.iter is 2'),
    (put('meta', 'seed', value=8), 'meta.seed is 8, message_hub.runtime_info.seed is 7'),
    (put('message_hub', value=3), 'message_hub is no dict of dicts'),
    (put('message_hub', 'log_scalars', 'train/loss', value=[1]), r"log_scalars\['train/loss'\] is a list"),
    (put('message_hub', 'log_scalars', 'train/loss', value=DELETED), "has 'train/loss' in resumed_keys or as a value"),
    (put('message_hub', 'resumed_keys', 'iter', value=None), r"resumed_keys\['iter'\] is None"),
    (put(*INFO, 'epoch', value={}), 'runtime_info.epoch is {}, not of type int'),
    (put(*INFO, 'max_iters', value='x'), "runtime_info.max_iters is 'x', not of type int"),
    (put('state_dict', '2.bias', value=DELETED), 'state_dict lacks 1 tensors of 9: 2.bias'),
    (put('state_dict', 'x.bias', value=torch.ones(2)), 'state_dict has unknown 1 tensors of 9: x.bias'),
    (
        put('state_dict', '2.bias', value=torch.ones(3)),
        r'2.bias is \(\(3,\), torch.float32\), not \(\(2,\), torch.float32',
    ),
    (put('state_dict', '2.bias', value=torch.Tensor.half), 'torch.float16'),
    (put('state_dict', '2.bias', value=torch.tensor([1, torch.nan])), 'state_dict: NaN in 1 of 2 values of 2.bias'),
    (put('ema_state_dict', value={}), 'it has averaged weights, ema_state_dict, and this run no EMAHook'),
    (put('optimizer', value=[]), 'optimizer is a list'),
    (put('optimizer', 'param_groups', value=lambda groups: groups[:1]), 'param_groups has 1 groups, the optimizer 2'),
    (put('optimizer', 'loss_scaler', value={}), 'optimizer.loss_scaler is not in this run'),
    (put(*GROUP, 'params', value=[4]), r'param_groups\[1\].params has 1 parameters, not the 2 of this run'),
    (put(*GROUP, 'lr', value=DELETED), r'param_groups\[1\].lr is missing'),
    (put(*GROUP, 'lr', value='0.2'), r"param_groups\[1\].lr is '0.2', which cannot stand for 0"),
    (put(*GROUP, 'lr', value=torch.inf), r'param_groups\[1\].lr is inf'),
    (put(*GROUP, 'lr', value=-0.1), r'param_groups\[1\].lr is -0.1'),
    (put(*GROUP, 'lr', value=0.3), r'_last_value .* is not the lr \[0.0853.*, 0.3, '),
    (put(*GROUP, 'initial_lr', value=0.3), r'param_schedulers\[0\].base_values .* are not initial_lr \[0.1, 0.3'),
    (put(*GROUP, 'weight_decay', value=0.5), r'param_groups\[1\].weight_decay is 0.5, in this run 0.01'),
    (put(*GROUP, 'betas', value=(0.9,)), r'param_groups\[1\].betas is \(0.9,\), which cannot'),
    (put('optimizer', 'base_param_settings', 'lr', value=None), 'base_param_settings.lr is None'),
    (put(*STATE, value=[]), 'optimizer.state is a list'),
    (put(*STATE, 3, value=DELETED), 'optimizer.state has 5 parameters, it was saved with 6'),
    (put(*STATE, 9, value={}), r'optimizer.state\[9\] belongs to none of the 6 parameters'),
    (
        put(*STATE, 0, value={'momentum_buffer': torch.ones(3, 2)}),
        r"\[0\] \(0.weight\) has \['momentum_buffer'\], AdamW needs",
    ),
    (put(*STATE, 0, 'exp_avg', value=torch.ones(2, 3)), r'\(0.weight\).exp_avg has shape \(2, 3\), not \(3, 2\)'),
    (put(*STATE, 0, 'exp_avg', value=torch.Tensor.long), r'(?s)exp_avg is tensor.*not a tensor of torch.float32'),
    (put(*STATE, 0, 'exp_avg', value=lambda old: old * torch.inf), 'exp_avg has infinity in 6 of 6 values'),
    (put(*STATE, 0, 'exp_avg', value=lambda old: old * torch.nan), 'exp_avg has NaN in 6 of 6 values'),
    (put(*STATE, 0, 'exp_avg_sq', value=torch.full((3, 2), -1.0)), 'exp_avg_sq is negative in 6 of 6 values'),
    (put(*STATE, 0, 'step', value=torch.tensor(-1.0)), 'step is negative'),
    (put(*STATE, 0, 'step', value=torch.ones(2)), r'step has shape \(2,\), not \(\)'),
    (put('param_schedulers', value=DELETED), 'param_schedulers is None, this run has 2 schedulers'),
    (put('param_schedulers', value=lambda plans: plans[::-1]), r'param_schedulers\[0\].start_factor is missing'),
    (put(*PLAN, value=None), r'param_schedulers\[1\] is a NoneType'),
    (put(*PLAN, 'T_max', value=9), r'param_schedulers\[1\].T_max is 9, in this run 4'),
    (
        put(*PLAN, 'step', value=1),
        r'param_schedulers\[1\] has the entries|param_schedulers\[1\].step is not in this run',
    ),
    (put(*PLAN, 'last_step', value=0), r'param_schedulers\[1\].last_step is 0, not 1'),
    (put(*PLAN, '_last_value', value=[torch.nan] * 3), r'param_schedulers\[1\]._last_value is \[nan'),
    (put(*PLAN, '_last_value', value=[0.1] * 3), r'param_schedulers\[1\]._last_value .* is not the lr'),
]


@pytest.mark.parametrize('change, told', WRONG)
def test_what_does_not_fit_is_named(change, told):
    run, saved = Run(), Run().train().checkpoint()
    change(saved)
    with pytest.raises(RuntimeError, match=told) as caught:
        run.check(saved, name='work/epoch_1.pth')
    assert str(caught.value).startswith('cannot resume from work/epoch_1.pth: ')


def test_another_kind_of_optimizer_is_refused():
    with pytest.raises(RuntimeError, match=r'param_groups\[0\].betas is missing'):
        Run().check(Run(torch.optim.SGD, momentum=0.9).train().checkpoint())


@pytest.mark.parametrize(
    'change, told',
    [
        (put('optimizer', 'loss_scaler', value=DELETED), 'optimizer.loss_scaler is missing'),
        (put('optimizer', 'loss_scaler', 'scale', value=torch.inf), 'loss_scaler.scale is inf'),
        (
            put('optimizer', 'loss_scaler', 'growth_factor', value=3.0),
            'loss_scaler.growth_factor is 3.0, in this run 2.0',
        ),
    ],
)
def test_loss_scale_is_checked(change, told):
    saved = Run(wrapper=ScaledWrapper).train().checkpoint()
    saved['optimizer']['loss_scaler']['scale'] = 8.0  # it moves
    Run(wrapper=ScaledWrapper).check(saved)
    change(saved)
    with pytest.raises(RuntimeError, match=told):
        Run(wrapper=ScaledWrapper).check(saved)


def test_averaged_weights_are_checked_where_the_run_has_them():
    run, saved = Run(), Run().train().checkpoint()
    averaged = ExponentialMovingAverage(run.model)
    with pytest.raises(RuntimeError, match='ema_state_dict is missing'):
        run.check(saved, ema_model=averaged)
    saved['ema_state_dict'] = copy.deepcopy(averaged.state_dict())
    run.check(saved, ema_model=averaged)
    del saved['ema_state_dict']['module.0.bias']
    with pytest.raises(RuntimeError, match='ema_state_dict lacks 1 tensors of 10: module.0.bias'):
        run.check(saved, ema_model=averaged)


def test_a_run_of_more_epochs_goes_on_with_the_schedule_of_the_checkpoint():
    longer = SimpleNamespace(max_epochs=9, max_iters=9 * LENGTH)
    saved = Run().train().checkpoint()
    Run(epochs=9).check(saved, longer)
    saved['param_schedulers'][1]['T_max'] = 'x'
    with pytest.raises(RuntimeError, match='T_max'):
        Run(epochs=9).check(saved, longer)


def test_several_optimizers_are_checked_each_by_name():
    runs = dict(a=Run(), b=Run(torch.optim.SGD, momentum=0.9))
    model = nn.ModuleDict({name: run.model for name, run in runs.items()})
    wrapper = OptimWrapperDict(**{name: run.wrapper for name, run in runs.items()})
    schedulers = {name: run.schedulers for name, run in runs.items()}
    saved = dict(a=Run().train().checkpoint(), b=Run(torch.optim.SGD, momentum=0.9).train().checkpoint())
    whole = dict(saved['a'], state_dict=model.state_dict())
    whole['meta']['optimizer_states'] = dict(a=6, b=6)
    for key in ('optimizer', 'param_schedulers'):
        whole[key] = {name: one[key] for name, one in saved.items()}
    check_training_checkpoint(whole, model, wrapper, schedulers, LOOP)
    broken = copy.deepcopy(whole)
    broken['optimizer']['b']['state'][0]['momentum_buffer'][0] = torch.nan
    del broken['param_schedulers']['a'][0]
    with pytest.raises(RuntimeError, match=r'param_schedulers\.a is .*this run has 2 schedulers') as caught:
        check_training_checkpoint(broken, model, wrapper, schedulers, LOOP)
    assert 'optimizer.b.state[0] (b.0.weight).momentum_buffer has NaN in 2 of 6 values' in str(caught.value)


class Net(BaseModule):
    def __init__(self, backbone, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = backbone
        self.head = nn.ModuleDict(dict(cls=nn.Linear(4, 2), box=nn.Linear(4, 4)))


def slimmable(width=None):
    shape = dict(stem_channels=8, base_channels=8, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    return SlimmableResNet_CIFAR(depth=18, width=width, **shape)


def calibrated_state():
    net = Net(slimmable())
    calibrate_bn(net.backbone, [1.0, 0.5], [torch.randn(4, 3, 8, 8)])
    return net.state_dict()


def test_a_calibrated_checkpoint_is_no_training():
    with pytest.raises(RuntimeError, match='it has no meta, message_hub, optimizer, it is a calibrated checkpoint'):
        Run().check(dict(state_dict=calibrated_state()))


def test_statistics_of_widths_may_come_and_go():
    run = Run()
    run.model = nn.Sequential(*run.model, SlimmableBatchNorm2d(2))
    saved = Run().train().checkpoint()
    saved['state_dict'].update({f'3.{key}': value for key, value in SlimmableBatchNorm2d(2).state_dict().items()})
    run.check(saved)
    saved['state_dict'].update({'3.running_mean_0_5': torch.ones(1), '3.running_var_0_5': torch.ones(1)})
    run.check(saved)
    saved['state_dict'].update({'1.running_mean_0_5': torch.ones(1), '1.running_var_0_5': torch.ones(1)})
    with pytest.raises(RuntimeError, match='has unknown 2 tensors'):  # of a plain batch norm
        run.check(saved)


def test_parts_without_weights_are_named_and_counted():
    net = Net(nn.Conv2d(3, 4, 1))
    state = net.state_dict()
    assert missing_parts(net, state) is None
    assert missing_parts(net, {**state, 'more.weight': torch.ones(1)}) is None
    del state['head.cls.bias'], state['backbone.weight'], state['backbone.bias']
    state['head.box.bias'] = torch.ones(3)
    told = (
        'it has nothing for 4 of 6 tensors: backbone (2); head.cls (1); head.box (1) (1 have other shapes: head.box.b'
    )
    assert missing_parts(net, state).startswith(told)


@pytest.mark.parametrize('width', [None, 1.0, 0.5])
def test_a_width_is_cut_out_of_a_full_checkpoint_and_not_missed(width):
    net, state = Net(slimmable(width)), calibrated_state()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert missing_parts(net, state) is None
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    without = {key: value for key, value in state.items() if not key.startswith('backbone.')}
    assert re.search(r'nothing for \d+ of \d+ tensors: backbone', missing_parts(net, without))
    del state['backbone.conv1.weight']
    with pytest.raises(RuntimeError, match="1 parameters missing .'conv1.weight'"):
        missing_parts(net, state)


def test_what_a_model_makes_anew_while_it_loads_is_not_missed():
    net = Net(nn.Conv2d(3, 4, 1))
    net.register_buffer('table', torch.ones(3))
    net.register_load_state_dict_pre_hook(lambda _, state, *__: state.pop('table', None))  # as SwinTransformerV2 does
    assert missing_parts(net, net.state_dict()) is None
    assert '1 of 7 tensors: head.cls' in missing_parts(
        net, {key: value for key, value in net.state_dict().items() if key != 'head.cls.bias'}
    )


@pytest.mark.parametrize('prefix', [None, 'backbone', 'backbone.'])
def test_init_cfg_of_a_stock_part_must_find_all_of_it(tmp_path, prefix):
    source = Net(nn.Conv2d(3, 4, 1)).state_dict()
    state = source if prefix else {key.removeprefix('backbone.'): value for key, value in source.items()}

    def runner(resume=False):
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'given.pth'), prefix=prefix)
        part = BaseModule(init_cfg)
        part.weight, part.bias = nn.Parameter(torch.ones(4, 3, 1, 1)), nn.Parameter(torch.ones(4))
        return SimpleNamespace(model=Net(part), _resume=resume)

    torch.save(dict(state_dict=state), tmp_path / 'given.pth')
    CheckLoadedHook().before_run(runner())
    state.pop('backbone.bias' if prefix else 'bias')
    torch.save(dict(state_dict=state), tmp_path / 'given.pth')
    with pytest.raises(RuntimeError, match=r'given\.pth: it has nothing for 1 of 2 tensors: bias .*--allow-missing'):
        CheckLoadedHook().before_run(runner())
    CheckLoadedHook(allow_missing=True).before_run(runner())
    CheckLoadedHook().before_run(runner(resume=True))  # whose weights come from elsewhere


def loading(model, hooks=(), path='given.pth'):
    return SimpleNamespace(model=model, hooks=hooks, _resume=False, _load_from=path, work_dir='work')


def test_load_from_must_find_all_of_a_model():
    net = Net(nn.Conv2d(3, 4, 1))
    state = net.state_dict()
    CheckLoadedHook().after_load_checkpoint(loading(net), dict(state_dict=state))
    del state['head.cls.bias']
    with pytest.raises(
        RuntimeError, match=r'from given.pth: it has nothing for 1 of 6 tensors: head.cls \(1\)\. To sta'
    ):
        CheckLoadedHook().after_load_checkpoint(loading(net), dict(state_dict=state))
    CheckLoadedHook(allow_missing=True).after_load_checkpoint(loading(net), dict(state_dict=state))
