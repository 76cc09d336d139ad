"""What has options: how to build it small, how to work with it, and the names of its options."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from us3l_mm import registry
from us3l_mm.deploy.costs import activation_memory, measure_latency
from us3l_mm.evaluation import extract_features
from us3l_mm.models.algorithms import MomentumTeacher
from us3l_mm.models.data_preprocessors.random_ops import TRANSFORMS
from us3l_mm.models.multi_width import GroupRegularizer
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableLinear, calibrate_bn, slim_channels

# Functions have no options; loops and the Runner have those of mmengine.
REGISTRIES = ('DATASETS', 'HOOKS', 'METRICS', 'MODELS', 'MODEL_WRAPPERS', 'OPTIM_WRAPPERS', 'TASK_UTILS', 'TRANSFORMS')
# Arguments that are no options, and options that torch, mmengine or mmpretrain check when they use them.
NOT_OURS = ('device', 'dtype', 'init_cfg', 'module', 'pretrained')


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
        'CheckDataHook': Target(None),
        'CheckLoadedHook': Target(None),
        'ClassFolders': Target(None, dict(folders=['a'], data_root='none', lazy_init=True)),
        'CustomVOC': Target(None, dict(ann_file='none.txt', lazy_init=True)),
        'Digits': Target(None, dict(per_class=2, pipeline=[]), lambda data: [len(data)]),
        'DigitPhotos': Target(None, dict(count=2, pipeline=[]), lambda data: [len(data)]),
        'FewLabels': Target(
            None,
            dict(dataset=dict(type='us3l_mm.Digits', pipeline=[]), few='2'),
            lambda data: [data[0]['digit_idx'], len(data)],
        ),
        'InMemory': Target(None, dict(dataset=dict(type='us3l_mm.Digits', per_class=2, pipeline=[]))),
        'LinearProbe': Target(None, dict(backbone=NET, widths=[0.5], head=dict(type='LinearClsHead', num_classes=10))),
        'MonitorHook': Target(None),
        'NonFiniteHook': Target(None),
        'LoadImageFromFile': Target(None),
        'LoadResizedCrops': Target(None, dict(scale=16)),
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
        'TemporalConsistencyHook': Target(None),
        'US3LDistributedDataParallel': Target(None, dict(module=nn.Linear(2, 2))),
        'WidthAccuracy': Target(None),
        'WidthSampler': Target(None, {}, draw),
    }
    found = registered()
    lacking = [name for name in sorted(found) if name not in bases and options(Target(found[name]))]
    if lacking:
        raise SystemExit(f'say what {", ".join(lacking)} need to be built: add them to option_targets.py')
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
        known = tuple(inspect.signature(TRANSFORMS[name]).parameters)
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
        kinds = [kind for kind in build.__mro__ if '__init__' in vars(kind)]
        own = [kind.__init__ for kind in kinds if kind.__module__.startswith('us3l_mm.')]
        if own and not any(part.kind is part.VAR_KEYWORD for part in inspect.signature(own[0]).parameters.values()):
            own = own[:1]  # it hands on nothing that it does not name
        if build.__module__.startswith('us3l_mm.slim') and issubclass(build, nn.Module):
            own.append(next(kind.__init__ for kind in kinds if kind.__module__.startswith('torch.')))
    names = dict.fromkeys(target.more)
    for function in own:
        for name, parameter in inspect.signature(function).parameters.items():
            if name != 'self' and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                names[name] = None
    return [name for name in names if name not in NOT_OURS and not (build is MomentumTeacher and name in target.base)]
