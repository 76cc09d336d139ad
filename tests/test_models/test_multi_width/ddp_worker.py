"""The processes of the distributed tests, each of which trains the scenarios on its part of the images.

python ddp_worker.py FOLDER
"""

import sys
from pathlib import Path

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from builders import BATCH_NORM, make_views, us3l_cfg
from us3l_mm.models import US3L
from us3l_mm.registry import MODEL_WRAPPERS
from us3l_mm.slim import SlimmableBatchNorm2d, SlimmableConv2d

COUNT, IMAGES = 4, 16  # iterations, one in each stage of dynamic sampling; images of the joint batch
SYNCHRONISED = dict(type='us3l_mm.SlimmableBatchNorm2d', sync=True)


class Convolutions(nn.Module):
    """Slimmable backbone in which no image sees another."""

    def __init__(self):
        super().__init__()
        self.conv1 = SlimmableConv2d(3, 32, 3, padding=1)
        self.conv2 = SlimmableConv2d(32, 64, 3, stride=2)

    def forward(self, x):
        return (self.conv2(self.conv1(x).relu()).relu(),)


# Base loss, distillation loss, batch norm (of each process, or synchronised), update rule; further options.
SCENARIOS = {
    'nce': ('nce gathered', 'nce gathered', False, 'per_width'),
    'nce, accumulate': ('nce gathered', 'nce gathered', False, 'accumulate'),
    'mse': ('mse', 'mse', False, 'per_width', dict(group_reg=False)),
    'mse, accumulate': ('mse', 'mse', False, 'accumulate'),
    'batch norm, nce': ('nce gathered', 'mse', True, 'per_width'),
    'batch norm, mse, accumulate': ('mse', 'nce gathered', True, 'accumulate'),
    'batch norm, negatives of one process': ('nce', 'nce', True, 'per_width'),
    'synchronised, nce': ('nce gathered', 'mse', 'sync', 'per_width'),
    'synchronised, mse, accumulate': ('mse', 'mse', 'sync', 'accumulate'),
    'batch norm, nce, two parts': ('nce', 'nce', True, 'per_width', dict(micro_batches=2)),
    'batch norm, mse, two parts, accumulate': ('mse', 'mse', True, 'accumulate', dict(micro_batches=2)),
}
OF_FOUR = ('nce', 'batch norm, mse, accumulate', 'synchronised, nce', 'synchronised, mse, accumulate')  # processes
UNEVEN = {2: [9, 7], 4: [2, 1, 7, 6]}  # images of each process


def make_model(base, distill, batch_norm, update, options=None):
    torch.manual_seed(3)
    norm, in_backbone = {
        False: (dict(type='LN'), None),
        True: (BATCH_NORM, None),
        'sync': (SYNCHRONISED, SYNCHRONISED),
    }[batch_norm]
    backbone = dict(norm_cfg=in_backbone) if batch_norm else Convolutions()
    case = (base, distill, True, True, True)
    model = US3L(**us3l_cfg(case, backbone=backbone, norm_cfg=norm, update=update, **(options or {})))
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


def joint_views():
    """Those of all processes."""
    return make_views(COUNT, IMAGES)


def count_reductions(wrapped):
    """Note, in the order of the reductions, how many gradients each has, and do them as DDP would."""
    counts = []

    def reduce(group, bucket):
        counts.append(len(bucket.gradients()))
        return default_hooks.allreduce_hook(group, bucket)

    wrapped.register_comm_hook(None, reduce)
    return counts


def count_gathers():
    """Note every gather of negatives from here on."""
    functional, calls = torch.distributed.nn.functional, []
    gather = functional.all_gather

    def counted(tensor):
        calls.append(tensor.shape)
        return gather(tensor)

    functional.all_gather = counted
    return calls


def normalise(x):
    """Output and gradients of a synchronised norm at half width, for a loss that weighs each image differently."""
    torch.manual_seed(5)
    norm = SlimmableBatchNorm2d(12, sync=True).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = x.clone().requires_grad_()
    y = norm(x)
    (y**3).sum().backward()
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad]


def make_features():
    return torch.randn(IMAGES, 6, 3, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64) + 2


class Other(BaseModel):
    """A model of one width, with a buffer that training changes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.net(inputs).square().mean())


def train_other(wrapped, rank):
    """State of a model after two updates."""
    optimizer = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9))
    images = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(rank))
    for batch in images:
        wrapped.train_step(dict(inputs=batch), optimizer)
    return wrapped.module.state_dict()


def error_of(function, *args):
    try:
        function(*args)
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return None


def work(rank, world_size, folder):
    torch.set_num_threads(1)
    meeting = f'file://{folder.resolve()}/meeting_of_{world_size}'
    torch.distributed.init_process_group('gloo', init_method=meeting, rank=rank, world_size=world_size)
    DefaultScope.get_instance('worker', scope_name='mmpretrain')
    views = [[view.chunk(world_size)[rank] for view in pair] for pair in joint_views()]
    results = {}
    gathers = count_gathers()
    for name in SCENARIOS if world_size == 2 else OF_FOUR:
        model = make_model(*SCENARIOS[name])
        gathers.clear()
        cfg = dict(type='us3l_mm.US3LDistributedDataParallel', module=model, device_ids=[0])  # as the Runner has it
        wrapped = MODEL_WRAPPERS.build(cfg)
        reductions = count_reductions(wrapped)
        results[name] = (
            *train(model, wrapped.train_step, views),
            sum(reductions),
            len(gathers),
            wrapped.find_unused_parameters,
        )
    results['other model'] = [
        train_other(MODEL_WRAPPERS.build(dict(type=kind, module=Other(), **options)), rank)
        for kind, options in (
            ('us3l_mm.US3LDistributedDataParallel', dict(device_ids=[0])),
            ('MMDistributedDataParallel', dict(broadcast_buffers=False)),
        )
    ]
    results['uneven'] = normalise(make_features().split(UNEVEN[world_size])[rank])
    stock = MMDistributedDataParallel(make_model(*SCENARIOS['nce']))
    optimizer = OptimWrapper(torch.optim.SGD(stock.parameters(), lr=0.05))
    results['stock wrapper'] = error_of(stock.train_step, dict(inputs=views[0]), optimizer)
    torch.save(results, folder / f'{rank}_of_{world_size}.pt')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    for count in (2, 4):  # forked, for they would take longer to import all this than to train
        torch.multiprocessing.start_processes(work, (count, Path(sys.argv[1])), nprocs=count, start_method='fork')
