"""What several tests share: scripts by their names, and a tiny model of every kind of US3L with its views.

Imported as ``builders`` everywhere: pytest has this folder on its path, and a process that a test starts gets it by
PYTHONPATH.
"""

import importlib.util
import json
from pathlib import Path

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper

from us3l_mm.models import US3L, SlimmableResNet_CIFAR
from us3l_mm.models.data_preprocessors.random_ops import augmentation

ROOT = Path(__file__).parents[1]
LR, MOMENTUM, DECAY = 0.05, 0.9, 2.5e-3  # a strong regulariser, so that its errors show
# Options of configs/_base_/models/us3l_nce.py for a model that trains in a second.
SMALL_US3L = dict(
    backbone=dict(stem_channels=16, base_channels=16, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
    neck=dict(in_channels=32, hid_channels=32, out_channels=16),
    distill_predictor=dict(in_channels=16, hid_channels=32, out_channels=16),
)
BATCH_NORM = dict(type='BN1d', track_running_stats=False)

# The paper's ablations: base loss, distillation loss, auxiliary head, momentum for the base and the sub-networks.
ABLATIONS = {
    1: ('mse', None, False, False, False),
    2: ('mse', 'mse', False, False, False),
    3: ('mse', 'mse', False, True, True),
    4: ('mse', 'mse', True, True, True),
    5: ('mse', 'nce', False, False, False),
    6: ('mse', 'nce', False, False, True),
    7: ('mse', 'nce', False, True, True),
    8: ('mse', 'nce', True, True, True),
    9: ('nce', None, False, False, False),
    10: ('nce', 'mse', False, False, False),
    11: ('nce', 'mse', False, False, True),
    12: ('nce', 'mse', False, True, True),
    13: ('nce', 'mse', True, True, True),
    14: ('nce', 'nce', False, False, False),
    15: ('nce', 'nce', False, False, True),
    16: ('nce', 'nce', False, True, True),
    17: ('nce', 'nce', True, True, True),
}


def find_script(name):
    """Path of the one script of that name in tools/, projects/ or tests/."""
    (path,) = [path for folder in ('tools', 'projects', 'tests') for path in (ROOT / folder).rglob(f'{name}.py')]
    return path


def load_script(name):
    """Import a script by its name."""
    spec = importlib.util.spec_from_file_location(name, find_script(name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_faults(checks, path, *arguments):
    """What each of several generators of faults finds in a config; an error in one of them is a fault, too."""
    found = []
    for check in checks:
        name = check.__name__.removeprefix('check_').replace('_', ' ')
        try:
            for fault in check(path, *arguments):
                found.append(f'{name}: {fault}')
        except Exception as error:
            found.append(f'{name}: {type(error).__name__}: {error}')
    return found


class TinyResNet(SlimmableResNet_CIFAR):
    """ResNet of a block without and a block with a downsampling shortcut."""

    arch_settings = {18: (SlimmableResNet_CIFAR.arch_settings[18][0], (1, 1))}

    def __init__(self, **options):
        shape = dict(stem_channels=32, base_channels=32, num_stages=2, strides=(1, 2), dilations=(1, 1))
        super().__init__(depth=18, out_indices=(1,), zero_init_residual=False, **shape, **options)


def predictor_cfg(norm_cfg=BATCH_NORM):
    return dict(
        type='NonLinearNeck',
        in_channels=16,
        hid_channels=24,
        out_channels=16,
        num_layers=2,
        with_bias=False,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=norm_cfg,
    )


def loss_cfg(name):
    """``'mse'``, ``'nce'``, or ``'nce gathered'``, whose negatives are those of all processes."""
    if name == 'mse':
        return dict(type='CosineSimilarityLoss')
    return dict(type='us3l_mm.NTXentLoss', gather=name == 'nce gathered')


def us3l_cfg(case, group_reg=True, backbone=None, norm_cfg=BATCH_NORM, **options):
    """Arguments of US3L for one of the cases of ``ABLATIONS``.

    ``backbone`` are options of :class:`TinyResNet`, or another backbone with 64 output channels.
    """
    base, distill, auxiliary, base_momentum, sub_momentum = case
    return dict(
        data_preprocessor=BaseDataPreprocessor(),
        backbone=backbone if isinstance(backbone, torch.nn.Module) else TinyResNet(**(backbone or {})),
        neck=dict(
            type='us3l_mm.SlimmableNonLinearNeck',
            in_channels=64,
            hid_channels=24,
            out_channels=16,
            num_layers=3,
            with_bias=(True, False) if base == 'mse' else True,
            with_last_bn=False,
            with_last_bias=True,
            norm_cfg=norm_cfg,
        ),
        head=dict(
            type='LatentPredictHead',
            loss=loss_cfg(base),
            predictor=predictor_cfg(norm_cfg) if base == 'mse' else dict(type='torch.nn.Identity'),
        ),
        distill_loss=None if distill is None else loss_cfg(distill),
        distill_predictor=predictor_cfg(norm_cfg) if auxiliary else None,
        base_target='momentum' if base_momentum else 'online',
        sub_target='momentum' if sub_momentum else 'online',
        group_reg=dict(coefficient=DECAY) if group_reg else None,
        **options,
    )


def make_us3l(case, **options):
    """Model in float64 whose every parameter, the teacher's too, is random; arguments as for :func:`us3l_cfg`."""
    torch.manual_seed(5)
    model = US3L(**us3l_cfg(case, **options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.train()


def make_optimizer(model, wrapper=OptimWrapper, lr=LR, **options):
    return wrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM), **options)


def make_views(count=5, n=4, dtype=torch.float64, size=8):
    """Two views of ``n`` images for each of ``count`` iterations."""
    generator = torch.Generator().manual_seed(7)
    return [[torch.randn(n, 3, size, size, dtype=dtype, generator=generator) for _ in range(2)] for _ in range(count)]


LOG_HEAD = """2026/11/27 18:17:09 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    Python: 3.11.7 (main, May  9 2026, 07:35:25) [GCC 12.2.0]
    CUDA available: False
    PyTorch: 2.11.0+cu130
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3
    MMEngine: 0.10.7

Runtime environment:
    seed: 7
    GPU number: 1
------------------------------------------------------------

2026/11/27 18:17:09 - mmengine - INFO - us3l_mm 1.2.3, commit abc1234; 1442 training images; 2 CPU cores
"""


def write_run(folder, lines, session='20261127_181709', config='', log='', head=LOG_HEAD, saved=()):
    """Write a work dir as a training leaves it: logged lines, a log in mmengine's form, a config, checkpoints."""
    (folder / session / 'vis_data').mkdir(parents=True)
    (folder / session / 'vis_data' / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    for line in lines:
        if 'loss' in line and 'epoch' in line:
            place = f'[{line["epoch"]}][10/10]  lr: {line.get("lr", 0.1):.4e}  loss: {line["loss"]:.4f}'
            log += f'2026/11/27 18:20:00 - mmengine - INFO - Epoch(train)  {place}\n'
    (folder / session / f'{session}.log').write_text(head + log)
    (folder / 'config.py').write_text(config or US3L_RUN)
    for name in saved:
        torch.save({'meta': dict(seed=7, input_size=[16, 16]), 'state_dict': {}}, folder / name)
    return folder


US3L_RUN = """
default_scope = 'mmpretrain'
model = dict(type='us3l_mm.US3L')
train_cfg = dict(by_epoch=True, max_epochs=3)
train_dataloader = dict(batch_size=64, dataset=dict(type='us3l_mm.Digits', split='train'))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.5))
"""


def us3l_lines(epochs, std=0.9, loss=2.0):
    """Logged lines of a pretraining, ten iterations an epoch."""
    return [
        dict(
            lr=0.1 / epoch,
            loss=loss / epoch,
            loss_widest=2 * loss / epoch,
            loss_narrowest=-0.5,
            loss_random=-0.6,
            feature_std=std,
            epoch=epoch,
            iter=10 * epoch,
            step=10 * epoch,
        )
        for epoch in range(1, epochs + 1)
    ]


def augment(images, generator, transforms):
    """Draw for all images and apply a list of transforms of ``BatchedViewsPreprocessor``."""
    step = augmentation(transforms)
    return step.apply(images, step.draw(len(images), images.shape[2:], generator).float())


class ScalingOptimWrapper(OptimWrapper):
    """Loss scaling as mmengine's AmpOptimWrapper has it, but on a CPU."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=1024.0, growth_interval=2)

    def backward(self, loss):
        self.loss_scaler.scale(loss).backward()

    def step(self):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()
