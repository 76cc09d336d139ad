"""Give every option of every module of ours values that it cannot have, and misspell the keys of configs.

python tools/fault/config_fuzz.py                    # all, some minutes
python tools/fault/config_fuzz.py --sample           # a fixed part, under a minute
python tools/fault/config_fuzz.py --only US3L --list # the cases of one module, each with its outcome

The options are those in the signatures of what our registries hold and of a few functions. DOMAINS says which values an
option may have, in words of its own; a new option without a domain is an error here. Outcomes of a case:

clear    refused, and the error names the option
right    accepted, the value is in the domain, and the module then works
silent   accepted, though the value is not in the domain
unnamed  refused by an error that does not name the option
hang     neither accepted nor refused within 20 seconds
wrong    in the domain, but refused, or the module does not work or computes what is not finite

The exit status is 1 if there is a case of the last four.
"""

import argparse
import copy
import inspect
import keyword
import math
import random
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import distributed, nn

from us3l_mm import registry
from us3l_mm.config import read_config
from us3l_mm.deploy.costs import activation_memory, measure_latency
from us3l_mm.evaluation import extract_features
from us3l_mm.models.algorithms import MomentumTeacher
from us3l_mm.models.data_preprocessors.random_ops import TRANSFORMS
from us3l_mm.models.multi_width import GroupRegularizer
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableLinear, calibrate_bn, slim_channels
from us3l_mm.utils.arguments import count_from
from us3l_mm.utils.tables import markdown_table

SECONDS = 20
OUTCOMES = ('clear', 'right', 'silent', 'unnamed', 'hang', 'wrong')
# Not in HOOKS and FUNCTIONS: hooks are checked by tools/fault/signals.py and nonfinite.py, functions have no options.
REGISTRIES = ('DATASETS', 'METRICS', 'MODELS', 'MODEL_WRAPPERS', 'OPTIM_WRAPPERS', 'TASK_UTILS')
# Arguments that are no options, and options that torch, mmengine or mmpretrain check when they use them.
NOT_OURS = ('device', 'dtype', 'init_cfg', 'module', 'pretrained')

# Domains: predicates of a value.

Domain = Callable[[Any], bool]


def number(low: float = -math.inf, high: float = math.inf, without: tuple[float, ...] = ()) -> Domain:
    """Finite numbers of float32 from ``low`` to ``high``, but for some; booleans are no numbers."""

    def legal(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            return False
        return abs(value) < 3.4e38 and low <= value <= high and value not in without

    return legal


def whole(least: int, most: int = 2**63 - 1) -> Domain:
    return lambda v: isinstance(v, (int, np.integer)) and not isinstance(v, bool) and least <= v <= most


def flag(value: Any) -> bool:
    return value is True or value is False


def one_of(*choices: Any) -> Domain:
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def either(*domains: Domain) -> Domain:
    return lambda value: any(domain(value) for domain in domains)


def nothing(value: Any) -> bool:
    return value is None


def never(value: Any) -> bool:
    return False


def several(each: Domain, least: int = 1, most: float = math.inf) -> Domain:
    return lambda v: isinstance(v, (list, tuple)) and least <= len(v) <= most and all(each(item) for item in v)


def limits(each: Domain) -> Domain:
    return lambda value: several(each, 2, 2)(value) and value[0] <= value[1]


def different(value: Any) -> bool:
    """Whether numbers differ in their first six digits, by which names tell widths apart."""
    return len({f'{item:.6g}' for item in value}) == len(value)


def empty_dict(value: Any) -> bool:
    return isinstance(value, dict) and not value


WIDTH = number(0, 1, without=(0,))
SIDES = either(whole(1, 100_000), several(whole(1, 100_000), 2, 2))
UNIT = number(0, 1)
JITTER = either(number(0, 1e6), limits(number(0, 1e6)))


def widths(value: Any) -> bool:
    return several(WIDTH)(value) and different(value)


DOMAINS: dict[str, Domain] = {
    # layers, in the bases below of 8 channels
    'affine': flag,
    'bias': flag,
    'dilation': SIDES,
    'eps': number(1e-12),
    'groups': lambda value: whole(1)(value) and 8 % value == 0,
    'in_channels': whole(1),
    'in_features': whole(1),
    'kernel_size': SIDES,
    'num_features': whole(1),
    'out_channels': whole(1),
    'out_features': whole(1),
    'padding': either(whole(0, 100_000), several(whole(0, 100_000), 2, 2), one_of('same', 'valid')),
    'padding_mode': one_of('zeros', 'reflect', 'replicate', 'circular'),
    'ratio': lambda value: whole(1)(value) and 8 % value == 0,
    'rounding': one_of('divisible', 'int'),
    'slim_in': flag,
    'slim_out': flag,
    'stride': SIDES,
    'sync': flag,
    'track_running_stats': flag,
    'SlimmableBatchNorm2d.momentum': either(nothing, UNIT),
    'SlimmableBatchNorm2d.track_running_stats': one_of(True),
    'SwitchableBatchNorm2d.momentum': either(nothing, UNIT),
    'channels': whole(1),
    'width': WIDTH,
    'widths': widths,
    # several widths
    'alpha': number(0, 1 / 7, without=(1 / 7,)),
    'by_epoch': flag,
    'coefficient': UNIT,
    'compile': nothing,  # needs a sampler of few widths, which the base has not
    'dynamic': flag,
    'group_reg': either(nothing, empty_dict, lambda value: value == {'alpha': 0.1}),
    'linear_inputs': flag,
    'micro_batches': whole(1),
    'num_groups': whole(1, 20),
    'num_stages': whole(2, 1000),
    'num_widths': whole(2, 1000),
    'sampler': either(nothing, empty_dict, lambda value: value == {'num_widths': 2}),
    'sandwich': flag,
    'seed': whole(0),
    'slow_start': number(0, 1, without=(1,)),
    'update': one_of('per_width', 'accumulate'),
    'warmup': number(0, 0.5, without=(0.5,)),
    'width_range': lambda value: limits(WIDTH)(value) and not 0 < value[1] - value[0] < 1e-4,
    'width_step': either(nothing, number(0.001, 0.25, without=(0.25,))),  # of one quarter in the first stage
    'WidthSampler.widths': either(nothing, widths),
    # models
    'arch': never,
    'backbone': never,  # nothing among the values is a part that is known
    'base_target': one_of('momentum', 'online'),
    'data_preprocessor': either(nothing, empty_dict),
    'depth': one_of(18, 34, 50, 101, 152),
    'detector': never,
    'distill_loss': nothing,
    'distill_predictor': nothing,
    'distill': flag,
    'SlimmableDetector.distill': either(nothing, empty_dict, lambda value: value == {'feature': 0.5}),
    'eval_widths': widths,
    'feat_dim': whole(1),
    'gather': flag,
    'head': never,
    'hid_channels': whole(1),
    'momentum': UNIT,
    'momentum_end': either(nothing, UNIT),
    'neck': never,
    'LinearProbe.neck': nothing,
    'norm_cfg': never,
    'num_classes': whole(1),
    'patch_size': SIDES,
    'queue_len': whole(1),
    'require_statistics': flag,
    'same_view_weight': UNIT,
    'student_temperature': number(1e-6),
    'sub_target': one_of('momentum', 'online'),
    'teacher': never,
    'teacher_temperature': number(1e-6),
    'temperature': number(1e-6),
    'width_power': number(-10, 10),
    'with_bias': either(flag, several(flag, 2, 2)),
    'backbone width': either(nothing, WIDTH),
    'broadcast_buffers': flag,
    'find_unused_parameters': either(nothing, flag),
    # views of a batch
    'aspect_ratio_range': limits(number(1e-3, 1e3)),
    'backend': one_of('cv2', 'pillow'),
    'brightness': JITTER,
    'channel_weights': lambda value: several(number(0, 1e6), 3, 3)(value) and sum(value) > 0,
    'channels_last': flag,
    'contrast': JITTER,
    'crop_ratio_range': limits(UNIT),
    'direction': one_of('horizontal', 'vertical'),
    'hue': either(number(0, 0.5), limits(number(-0.5, 0.5))),
    'keep_channels': one_of(True),
    'magnitude_range': limits(number(1e-3, 60)),
    'magnitude_std': one_of('inf'),
    'mean': either(several(number(), 3, 3), several(number(), 1, 1)),
    'num_views': either(whole(1, 100), several(whole(1, 100), 1, 1)),
    'prob': UNIT,
    'saturation': JITTER,
    'scale': SIDES,
    'std': either(several(number(0, without=(0,)), 3, 3), several(number(0, without=(0,)), 1, 1)),
    'thr': number(0, 256),
    'transforms': lambda value: value == [[]],
    'RandomApply.transforms': lambda value: isinstance(value, (list, tuple)) and not value,
    # data and measurements
    'batch': whole(1),
    'dataset': never,
    'ignored_classes': several(lambda value: isinstance(value, str), least=0),
    'per_class': either(nothing, whole(1, 140)),
    'repeats': whole(1),
    'split': one_of('train', 'test'),
    'topk': several(whole(1)),
    'measure_latency.warmup': whole(0),
}


class Thing:
    """Of no type that an option takes."""

    def __repr__(self) -> str:
        return 'Thing()'


NAN, INF = math.nan, math.inf
VALUES: tuple[Any, ...] = (
    *(NAN, INF, -INF, -1, 0, 1, 2, 3, 2.0, -0.5, 1e-9, 0.25, 0.5, 0.6, 1.5, 1e39, 1e300, -1e300, 10**30, -(10**30)),
    *(True, False, None, '', 'x', '1', '0.5', 'nan', 'False', 'None', Thing()),
    *(np.float64(0.5), np.int64(2), np.bool_(True), torch.tensor(0.5), torch.tensor([0.5])),
    *((), [], {}, [0.5], [1], [0], [1.5], [True], ['x'], [NAN], [0.5, 1.5], [[]], {'x': 1}, {'type': 'NoSuchType'}),
    *((0.25, 1.0), (1.0, 0.25), (0.5, 0.5), (NAN, 1.0), (0.25, INF), (1, 2), (0, 2)),
)
# Values near the edges of single options.
MORE: dict[str, tuple[Any, ...]] = {
    'channel_weights': ([1, 1, 1], [0, 0, 0], [1, NAN, 1], [-1, 1, 1], [True, 1, 1]),
    'direction': ('vertical', 'diagonal'),
    'distill': ({'feature': 0.5}, {'feature': NAN}, {'feature': -1}, {'feature': '1'}, {'cls': True}),
    'group_reg': ({'alpha': 0.1}, {'alpha': NAN}, {'alpha': 0.2}, {'coefficient': -1}, {'num_groups': 2.0}),
    'hue': (0.7, (-0.5, 0.5), (-0.6, 0.5), (0.5, -0.5)),
    'ignored_classes': (['dog', 'cat'], ['dog', 1], 'dog'),
    'kernel_size': ((3, 3), (3,), (0, 3), (3, 2.0)),
    'magnitude_range': ((0.1, 2.0), (0, 2), (2, 0.1), (1, 1e3)),
    'mean': ([0.0, 1, 2], [0, NAN, 0]),
    'num_groups': (20, 21),
    'num_stages': (999, 1000, 1001, 10**9),
    'num_widths': (1000, 1001, 10**9),
    'padding_mode': ('circular', 'zero'),
    'per_class': (5, 141),
    'rounding': ('int', 'floor'),
    'sampler': ({'num_widths': 2}, {'num_widths': 1}, {'width_range': (0.5, 0.5 + 2e-16)}, {'widths': [0.5, 0.5]}),
    'std': ([1.0, 2, 3], [1, 0, 1], [1, -1, 1], [1, NAN, 1]),
    'temperature': (1e-7, 1e-6, 1e30),
    'topk': ([1, 5], [1, 0], [1, 2.0]),
    'update': ('per_width', 'accumulate', 'per_widths'),
    'width_range': ((0.3, 0.9), (0.5, 0.5 + 2e-16), (0.5, 0.5 + 1e-7), (0.5, 0.5, 0.5), (True, 1.0)),
    'width_step': (1e-9, 1e-3, 0.1, 0.2, 0.9),
    'widths': ([0.5, 0.5], [0.5, 0.50000001], [1.0, 0.75, 0.5], (True,), [0.5, '0.25']),
    'with_bias': ([True, False], [True], [True, 'x']),
}
MORE |= {
    'crop_ratio_range': ((0.0, 0.0), (0.2, 1.0)),
    'aspect_ratio_range': ((0.75, 1.25),),
    'eval_widths': MORE['widths'],
}

# Bases: what else a module needs. ``use`` works with it and returns tensors or numbers, which must be finite.


@dataclass
class Target:
    """Something with options.

    Attributes:
        build (Callable): Takes the options.
        base (dict): Options that it needs or that keep it small.
        use (Callable): Works with what ``build`` returns.
        more (tuple[str, ...]): Options that are in no signature of ours, though we check them.
        scope (str): Scope of the types in ``base``.
    """

    build: Callable[..., Any]
    base: dict[str, Any] = field(default_factory=dict)
    use: Callable[[Any], Any] = lambda built: 0
    more: tuple[str, ...] = ()
    scope: str = 'mmpretrain'


NET = dict(
    type='us3l_mm.SlimmableResNet_CIFAR',
    **dict(depth=18, stem_channels=16, base_channels=16, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)),
)
SHORT = {key: value for key, value in NET.items() if key != 'type'}
NECK = dict(type='us3l_mm.SlimmableNonLinearNeck', in_channels=16, hid_channels=16, out_channels=8)
HEAD = dict(type='LatentPredictHead', loss=dict(type='us3l_mm.NTXentLoss'), predictor=dict(type='torch.nn.Identity'))
LINEAR = dict(type='us3l_mm.SlimmableLinearClsHead', num_classes=10, in_channels=16)
HRNET = dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(16,)),
    stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(16, 32)),
    stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1,) * 3, num_channels=(16, 32, 64)),
    stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1,) * 4, num_channels=(16, 32, 64, 128)),
)
VIT = dict(arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32), img_size=16, patch_size=8)


def images(count: int = 4, channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def train(model: nn.Module) -> dict[str, Any]:
    """Train one iteration of two views, in the last stage of the sampler."""
    hub = MessageHub.get_current_instance()
    for name, value in dict(iter=3, max_iters=4, epoch=3, max_epochs=4).items():
        hub.update_info(name, value)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    views = [images(12), images(12).flip(0)]
    return model.train().run_step(dict(inputs=views, data_samples=None), optimizer, _WithoutPreprocessor(model))


class _WithoutPreprocessor(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model.data_preprocessor.forward = lambda data, training=False: data
        self.call = model

    def forward(self, *args, **kwargs) -> Any:
        return self.call(*args, **kwargs)


def draw(sampler: Any) -> list[float]:
    drawn = [sampler(i, i % 40, 40) for i in range(120)]
    sampler.count  # noqa: B018  must end
    for given in drawn:
        assert given == sorted(set(given), reverse=True) and given
        assert sampler.width_range[0] <= given[-1] and given[0] <= sampler.width_range[1]
    return [width for given in drawn for width in given]


def contrast(loss: nn.Module) -> torch.Tensor:
    shape = loss.queue.shape if hasattr(loss, 'queue') else (4, 8)
    return loss(torch.randn(shape), torch.randn(shape))


def penalise(reg: Any) -> torch.Tensor:
    weights = [nn.Parameter(torch.randn(16, 3, 1, 1)), nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(4, 6))]
    reg.add_gradient(weights, 0.7)
    return torch.cat([reg.penalty(weights, 0.7)[None], *(weight.grad.flatten() for weight in weights)])


def augment(preprocessor: nn.Module) -> list[torch.Tensor]:
    MessageHub.get_current_instance().update_info('iter', 0)
    batch = torch.randint(256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = preprocessor.size is None or max(preprocessor.size) <= 512  # what is legal may still be large
    return preprocessor(dict(inputs=batch, data_samples=None), True)['inputs'] if small else []


def view(transform: str, /, **options: Any) -> Any:
    """Build a preprocessor of one transform."""
    return registry.MODELS.get('BatchedViewsPreprocessor')([[dict(type=transform, **options)]], num_views=1)


def calibrated(widths: Any) -> Any:
    net = nn.Sequential(registry.MODELS.get('SlimmableConv2d')(3, 8, 1), SlimmableBatchNorm2d(8))
    calibrate_bn(net, widths, [images()])
    return net


class Reached(Exception):
    """A function has accepted its options and begins to read data."""


def extract(widths: Any) -> int:
    def batches() -> Iterator[dict]:
        raise Reached
        yield {}

    try:
        extract_features(registry.MODELS.build(NET), widths, batches(), None)
    except Reached:
        return 0
    raise AssertionError('it has read no data')


def detector_base() -> dict[str, Any]:
    model = get_config('mmdet::_base_/models/retinanet_r50_fpn.py').model.to_dict()
    slim = dict(type='us3l_mm.SlimmableConv2d', slim_out=False)
    model['neck'].update(conv_cfg=slim, in_channels=[16, 32, 64, 128], out_channels=16)
    model['bbox_head'].update(num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1)
    model['backbone'] = dict(type='us3l_mm.SlimmableResNet', depth=18, stem_channels=16, base_channels=16)
    model['backbone']['out_indices'] = (0, 1, 2, 3)
    detector = model.pop('type')
    return dict(model, detector=detector)


def targets() -> dict[str, Target]:
    """What has options: what our registries hold, then what is not registered."""
    bases = {
        'BatchedViewsPreprocessor': Target(
            None, dict(transforms=[[]], num_views=1, mean=[0.0] * 3, std=[1.0] * 3), augment, ('mean', 'std')
        ),
        'CustomVOC': Target(None, dict(ann_file='none.txt', lazy_init=True)),
        'Digits': Target(None, dict(per_class=2, pipeline=[]), lambda data: [len(data)]),
        'InMemory': Target(None, dict(dataset=dict(type='us3l_mm.Digits', per_class=2, pipeline=[]))),
        'LinearProbe': Target(None, dict(backbone=NET, widths=[0.5], head=dict(type='LinearClsHead', num_classes=10))),
        'NTXentLoss': Target(None, {}, contrast),
        'SEED': Target(
            None, dict(backbone=NET, neck=NECK, head=HEAD, teacher=dict(backbone=NET, neck=NECK, checkpoint='none.pth'))
        ),
        'SEEDLoss': Target(None, dict(queue_len=4, feat_dim=8), contrast),
        'SlimmableBatchNorm2d': Target(None, dict(num_features=8), lambda layer: layer(images(4, layer.num_features))),
        'SlimmableClassifier': Target(None, dict(backbone=NET, head=LINEAR, eval_widths=[1.0, 0.5])),
        'SlimmableConv2d': Target(
            None,
            dict(in_channels=8, out_channels=8, kernel_size=1),
            lambda layer: layer(images(2, layer.in_channels, 16)),
        ),
        'SlimmableDarknet': Target(None, dict(depth=53)),
        'SlimmableDetector': Target(None, detector_base(), scope='mmdet'),
        'SlimmableHRNet': Target(None, dict(extra=HRNET)),
        'SlimmableLinearClsHead': Target(None, dict(num_classes=3, in_channels=8)),
        'SlimmableMobileNetV2': Target(None, dict(widen_factor=0.25)),
        'SlimmableMobileNetV2_CIFAR': Target(None, dict(widen_factor=0.25)),
        'SlimmableMobileNetV3': Target(None, dict(arch='small_050')),
        'SlimmableNonLinearNeck': Target(
            None,
            dict(in_channels=8, hid_channels=8, out_channels=8, num_layers=3),
            lambda neck: neck((images(4, neck.fc0.in_features),)),
        ),
        'SlimmableRegNet': Target(None, dict(arch='regnetx_400mf')),
        'SlimmableResLayer': Target(None, dict(depth=18, width=0.5, base_channels=16, stem_channels=16)),
        'SlimmableResNeXt': Target(None, dict(depth=50)),
        'SlimmableResNet': Target(None, dict(depth=18, base_channels=16, stem_channels=16)),
        'SlimmableResNet_CIFAR': Target(None, SHORT),
        'SlimmableResNetV1d': Target(None, dict(depth=18, base_channels=16, stem_channels=16)),
        'SlimmableSEResNet': Target(None, dict(depth=50)),
        'SlimmableVisionTransformer': Target(None, VIT),
        'SwitchableBatchNorm2d': Target(None, dict(num_features=8), lambda layer: layer(images(4, layer.num_features))),
        'US3L': Target(
            None,
            dict(backbone=NET, neck=NECK, head=HEAD, distill_loss=dict(type='us3l_mm.NTXentLoss')),
            train,
        ),
        'US3LDistributedDataParallel': Target(None, dict(module=nn.Linear(2, 2))),
        'WidthAccuracy': Target(None),
        'WidthSampler': Target(None, {}, draw),
        'BFloat16OptimWrapper': Target(None),
    }
    found = registered()
    lacking = sorted(found.keys() - bases.keys())
    if lacking:
        raise SystemExit(f'say what {", ".join(lacking)} need to be built: add them to `targets`')
    for name, target in bases.items():
        target.build = found[name]
    parts = dict(backbone=nn.Linear(2, 2), neck=nn.Linear(2, 2))
    others = {
        'GroupRegularizer': Target(GroupRegularizer, {}, penalise),
        'MomentumTeacher': Target(
            MomentumTeacher, parts, lambda teacher: [teacher.momentum_at(x) for x in (0, 0.5, 1)]
        ),
        'SlimmableLinear': Target(
            SlimmableLinear, dict(in_features=8, out_features=8), lambda layer: layer(torch.randn(2, layer.in_features))
        ),
        'activation_memory': Target(lambda batch: activation_memory(nn.Conv2d(3, 2, 1), (4, 4), batch), dict(batch=1)),
        'calibrate_bn': Target(calibrated, dict(widths=[0.5])),
        'extract_features': Target(extract, dict(widths=[0.5])),
        'measure_latency': Target(lambda warmup=1, repeats=1: measure_latency(lambda: None, warmup, repeats)),
        'slim_channels': Target(slim_channels, dict(channels=8, width=0.5), lambda channels: channels),
    }
    needed = dict(RandomFlip=dict(prob=0.5), GaussianBlur=dict(magnitude_range=(0.1, 2.0)), Solarize=dict(thr=128))
    needed |= dict(RandomResizedCrop=dict(scale=16), RandomApply=dict(transforms=[dict(type='Solarize', thr=9)]))
    for name in TRANSFORMS:
        known = tuple(inspect.signature(TRANSFORMS[name]).parameters)[2:]
        others[name] = Target(partial(view, name), needed.get(name, {}), augment, known)
    return {**bases, **others}


def registered() -> dict[str, type]:
    """Classes of ours in our registries."""
    found = {}
    for name in REGISTRIES:
        own = getattr(registry, name)
        own.import_from_location()
        for kind in (*own.module_dict, *own.with_mmdet):
            cls = own.get(kind)
            if cls.__module__.startswith('us3l_mm.'):
                found[kind] = cls
    return found


def options(target: Target) -> list[str]:
    """Options in the signatures of a function, or of our constructors of a class; of layers those of torch, too."""
    build = target.build
    if not isinstance(build, type):
        own = [build]
    else:
        torchs = ('torch.',) if build.__module__.startswith('us3l_mm.slim') else ()
        kinds = [kind for kind in build.__mro__ if kind.__module__.startswith(('us3l_mm.', *torchs))]
        own = [kind.__init__ for kind in kinds if '__init__' in vars(kind) and not kind.__name__.startswith('_')]
    names = dict.fromkeys(target.more)
    for function in own:
        for name, parameter in inspect.signature(function).parameters.items():
            if name != 'self' and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                names[name] = None
    return [name for name in names if name not in NOT_OURS and not (build is MomentumTeacher and name in target.base)]


# Cases.


@dataclass
class Case:
    """A value for an option."""

    kind: str
    option: str
    value: Any
    legal: bool
    build: Callable[[], Any]
    use: Callable[[Any], Any] = lambda built: 0


def build(target: Target, **given: Any) -> Any:
    """Build a module, with copies of its options: some constructors change theirs."""
    with DefaultScope.overwrite_default_scope(target.scope):
        return target.build(**copy.deepcopy({**target.base, **given}))


def option_cases() -> Iterator[Case]:
    unknown = []
    for kind, target in targets().items():
        if options(target):
            target.use(build(target))  # must work
        for option in options(target):
            domain = DOMAINS.get(f'{kind}.{option}') or DOMAINS.get(option)
            if option == 'width' and 'Slimmable' in kind and kind != 'SlimmableResLayer':
                domain = DOMAINS['backbone width']
            if domain is None:
                unknown.append(f'{kind}.{option}')
                continue
            for value in (*VALUES, *MORE.get(option, ())):
                yield Case(kind, option, value, domain(value), partial(build, target, **{option: value}), target.use)
    if unknown:
        raise SystemExit(f'say which values these options may have, in DOMAINS: {", ".join(unknown)}')


def misspellings(key: str) -> Iterator[str]:
    for i in range(len(key)):
        yield key[:i] + key[i + 1 :]
        yield key[:i] + key[i] + key[i:]
        yield key[:i] + key[i + 1 : i + 2] + key[i] + key[i + 2 :]
    yield f'{key}s'
    yield key.replace('_', '')


def key_cases(folder: Path, each: int) -> Iterator[Case]:
    """Configs with one misspelt top-level key; variables of any other name are fine."""
    ours = {'classes', 'data_root', 'model_wrapper_cfg', 'sync_bn', 'width'}
    known = ours | set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    allowed = known | {'widths'}  # a variable of configs/linear
    draw = random.Random(0)
    for key in sorted(known):
        wrong = sorted({word for word in misspellings(key) if word not in allowed and not keyword.iskeyword(word)})
        for word in draw.sample(wrong, min(each, len(wrong))):
            yield Case('keys of a config', word, key, False, lambda word=word: read(folder, word))
    for word in ('view', 'net', 'max_epochs', 'my_model_options', 'train_pipeline', 'lr', '_modle', 'val_evaluator_2'):
        yield Case('keys of a config', word, 1, True, lambda word=word: read(folder, word))


def read(folder: Path, key: str) -> Any:
    path = folder / 'config.py'
    path.write_text(f"model = dict(type='US3L')\n{key} = 1\n")
    return read_config(str(path))


class Hang(BaseException):
    """A case took too long."""


def ring(*_: Any) -> None:
    raise Hang


def attempt(case: Case) -> tuple[str, str]:
    """Outcome of a case, and the error if there was one."""
    torch.manual_seed(0)
    signal.alarm(SECONDS)
    try:
        built = case.build()
        if not case.legal:
            return 'silent', ''
        return ('right', '') if finite(case.use(built)) else ('wrong', 'the result is not finite')
    except Hang:
        return 'hang', ''
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        return ('wrong' if case.legal else 'clear' if named(case, str(error)) else 'unnamed'), text
    finally:
        signal.alarm(0)


def named(case: Case, message: str) -> bool:
    """Whether a message names the option; or, where a dict was given, an entry of it or its type."""
    names = [case.option]
    if isinstance(case.value, dict):
        names += [*case.value, *(value for value in case.value.values() if isinstance(value, str))]
    if case.kind == 'keys of a config':
        return all(repr(name) in message for name in (case.option, case.value))
    patterns = ["'type'" if name == 'type' else rf'\b{re.escape(name)}\b' for name in names]
    return any(re.search(pattern, message, re.IGNORECASE) for pattern in patterns)


def finite(result: Any) -> bool:
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return all(finite(item) for item in result)
    return bool(torch.isfinite(torch.as_tensor(result)).all())


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=count_from(1), help='cases, drawn from all; all if not given')
    parser.add_argument('--sample', action='store_true', help='a fixed part: as --count 400')
    parser.add_argument('--seed', type=count_from(0), default=0, help='seed of the choice (default: %(default)s)')
    parser.add_argument('--only', default='', metavar='TEXT', help='cases whose MODULE.OPTION has this text')
    parser.add_argument('--list', action='store_true', help='print each case')
    return parser.parse_args()


def run(cases: list[Case], every: bool) -> list[tuple[Case, str, str]]:
    """Try all cases; one line for each module."""
    results, last = [], None
    for number, case in enumerate(cases, start=1):
        if case.kind != last and not every:
            print(f'{number - 1:5d} of {len(cases)} tried, now {case.kind}', flush=True)
        last = case.kind
        outcome, error = attempt(case)
        results.append((case, outcome, error))
        if every:
            print(f'{outcome}: {case.kind}.{case.option} = {case.value!r:.80}: {error:.200}', flush=True)
    return results


def report(results: list[tuple[Case, str, str]]) -> bool:
    """Print the table and each fault; return whether there is one."""
    counts = Counter((case.kind, outcome) for case, outcome, _ in results)
    rows = []
    for kind in dict.fromkeys(case.kind for case, _, _ in results):
        numbers = [counts[kind, outcome] for outcome in OUTCOMES]
        rows.append([kind, sum(numbers), *numbers])
    rows.append(['all', *(sum(column) for column in list(zip(*rows))[1:])])
    print('\n' + markdown_table(['options of', 'tried', *OUTCOMES], rows))
    faults = [result for result in results if result[1] not in ('clear', 'right')]
    for case, outcome, error in faults:
        print(f'{outcome}: {case.kind}.{case.option} = {case.value!r:.80}: {error:.300}')
    return bool(faults)


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    signal.signal(signal.SIGALRM, ring)
    torch.set_num_threads(1)
    MMLogger.get_instance('config_fuzz', log_level='ERROR')
    DefaultScope.get_instance('config_fuzz', scope_name='mmpretrain')
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=0, world_size=1)
        try:
            cases = [*option_cases(), *key_cases(Path(folder), each=8)]
            cases = [case for case in cases if args.only in f'{case.kind}.{case.option}']
            count = 400 if args.sample else args.count
            if count is not None and count < len(cases):
                chosen = sorted(random.Random(args.seed).sample(range(len(cases)), count))
                cases = [cases[index] for index in chosen]
            failed = report(run(cases, args.list))
        finally:
            distributed.destroy_process_group()
    sys.exit(int(failed))


if __name__ == '__main__':
    main()
