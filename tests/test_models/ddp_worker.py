"""One process of the distributed tests: trains every scenario on its half of the images.

python ddp_worker.py RANK WORLD_SIZE PORT OUT_FILE
"""

import os
import sys

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

import us3l_mm  # noqa: F401  before anything imports mmcv.ops
from us3l_mm.models import US3L, SlimmableResNet_CIFAR
from us3l_mm.registry import MODEL_WRAPPERS
from us3l_mm.slim import SlimmableConv2d

COUNT, IMAGES = 4, 8  # iterations, one in each stage of dynamic sampling; images of the joint batch


class Convolutions(nn.Module):
    """Slimmable backbone in which no image sees another."""

    def __init__(self):
        super().__init__()
        self.conv1 = SlimmableConv2d(3, 32, 3, padding=1)
        self.conv2 = SlimmableConv2d(32, 64, 3, stride=2)

    def forward(self, x):
        return (self.conv2(self.conv1(x).relu()).relu(),)


def predictor(norm):
    return dict(
        type='NonLinearNeck',
        in_channels=16,
        hid_channels=24,
        out_channels=16,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=norm,
    )


def loss(name):
    if name == 'mse':
        return dict(type='CosineSimilarityLoss')
    return dict(type='us3l_mm.NTXentLoss', gather=name == 'nce gathered')


# Base loss, distillation loss, batch norm, update rule.
SCENARIOS = {
    'nce': ('nce gathered', 'nce gathered', False, 'per_width'),
    'nce, accumulate': ('nce gathered', 'nce gathered', False, 'accumulate'),
    'mse': ('mse', 'mse', False, 'per_width'),
    'mse, accumulate': ('mse', 'mse', False, 'accumulate'),
    'batch norm, nce': ('nce gathered', 'mse', True, 'per_width'),
    'batch norm, nce, accumulate': ('nce gathered', 'mse', True, 'accumulate'),
    'batch norm, mse, accumulate': ('mse', 'nce gathered', True, 'accumulate'),
    'batch norm, negatives of one process': ('nce', 'nce', True, 'per_width'),
}


def make_model(base, distill, batch_norm, update):
    torch.manual_seed(3)
    norm = dict(type='BN1d', track_running_stats=False) if batch_norm else dict(type='LN')
    backbone = Convolutions()
    if batch_norm:
        backbone = SlimmableResNet_CIFAR(
            depth=18,
            stem_channels=32,
            base_channels=32,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(1,),
        )
    model = US3L(
        data_preprocessor=BaseDataPreprocessor(),
        backbone=backbone,
        neck=dict(
            type='us3l_mm.SlimmableNonLinearNeck',
            in_channels=64,
            hid_channels=24,
            out_channels=16,
            num_layers=3,
            with_bias=True,
            with_last_bn=False,
            with_last_bias=True,
            norm_cfg=norm,
        ),
        head=dict(
            type='LatentPredictHead',
            loss=loss(base),
            predictor=predictor(norm) if base == 'mse' else dict(type='torch.nn.Identity'),
        ),
        distill_loss=loss(distill),
        distill_predictor=predictor(norm),
        group_reg=dict(coefficient=1e-3),
        update=update,
    )
    return model.double().train()


def train(model, step, views):
    """Train ``step`` on each pair of views; returns the logs and the final state."""
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    logs = []
    for iteration, pair in enumerate(views):
        hub = MessageHub.get_current_instance()
        for name, value in dict(iter=iteration, epoch=iteration, max_iters=COUNT, max_epochs=COUNT).items():
            hub.update_info(name, value)
        logs.append({name: float(value) for name, value in step(dict(inputs=pair), optimizer).items()})
    return logs, {name: parameter.detach() for name, parameter in model.named_parameters()}


def make_views():
    generator = torch.Generator().manual_seed(7)
    shape = (IMAGES, 3, 8, 8)
    return [[torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)] for _ in range(COUNT)]


def count_reductions(wrapped):
    """Note, in the order of the reductions, how many gradients each has, and do them as DDP would."""
    counts = []

    def reduce(group, bucket):
        counts.append(len(bucket.gradients()))
        return default_hooks.allreduce_hook(group, bucket)

    wrapped.register_comm_hook(None, reduce)
    return counts


def error_of(function, *args):
    try:
        function(*args)
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return None


def main():
    rank, world_size, port, out_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    torch.distributed.init_process_group('gloo', rank=rank, world_size=world_size)
    DefaultScope.get_instance('worker', scope_name='mmpretrain')
    views = [[view.chunk(world_size)[rank] for view in pair] for pair in make_views()]
    results = {}
    for name, scenario in SCENARIOS.items():
        model = make_model(*scenario)
        cfg = dict(type='us3l_mm.US3LDistributedDataParallel', module=model, device_ids=[0])  # as the Runner has it
        wrapped = MODEL_WRAPPERS.build(cfg)
        reductions = count_reductions(wrapped)
        results[name] = (*train(model, wrapped.train_step, views), sum(reductions))
    stock = MMDistributedDataParallel(make_model(*SCENARIOS['nce']))
    optimizer = OptimWrapper(torch.optim.SGD(stock.parameters(), lr=0.05))
    results['stock wrapper'] = error_of(stock.train_step, dict(inputs=views[0]), optimizer)
    torch.save(results, out_file)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
