"""Build models of a config and what trains them without a Runner, for benchmarks of whole iterations."""

import argparse

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from us3l_mm.config import read_config
from us3l_mm.models import US3L
from us3l_mm.utils.arguments import CfgOptions

WIDTHS = (1.0, 0.6, 0.25)  # a draw of the last stage, for both sides of a comparison


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to train."""
    parser.add_argument('--config', default='configs/us3l/r18_4xb128-400e_cifar100.py', help='(default: %(default)s)')
    parser.add_argument('--amp', action='store_true', help='train in bfloat16')
    parser.add_argument('--channels-last', action='store_true', help='memory format of the images')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')


def build_model(args: argparse.Namespace, **changes) -> US3L:
    """Build the model of the config with some entries changed, in training mode and with the same weights each time."""
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    torch.manual_seed(0)
    preprocessor = dict(type='mmengine.BaseDataPreprocessor')  # views are given normalised
    return MODELS.build({**cfg.model, 'data_preprocessor': preprocessor, **changes}).to(args.device).train()


def build_plain(args: argparse.Namespace) -> US3L:
    """Build a dense model of full width, with the same base loss and teacher; the optimizer does its weight decay."""
    wide = dict(sampler=dict(widths=[1.0], dynamic=False), distill_loss=None, distill_predictor=None, group_reg=None)
    options = {**(args.cfg_options or {}), 'model.backbone.width': 1.0}
    return build_model(argparse.Namespace(**{**vars(args), 'cfg_options': options}), **wide)


def build_optimizer(
    model: torch.nn.Module, amp: bool, weight_decay: float = 0, half: bool = False, lr: float = 1e-2
) -> OptimWrapper:
    """Build SGD with momentum in a wrapper of float32, bfloat16 (``amp``) or float16 (``half``, GPUs only)."""
    kind = 'AmpOptimWrapper' if half else 'us3l_mm.BFloat16OptimWrapper' if amp else 'OptimWrapper'
    sgd = dict(type='SGD', lr=lr, momentum=0.9, weight_decay=weight_decay, foreach=True)  # as on a GPU by default
    return build_optim_wrapper(model, dict(type=kind, optimizer=sgd))


def make_views(args: argparse.Namespace) -> list[Tensor]:
    """Draw two views of noise, (N, 3, H, W) each."""
    form = torch.channels_last if args.channels_last else torch.contiguous_format
    shape = (args.batch, 3, args.side, args.side)
    return [torch.randn(shape, device=args.device).contiguous(memory_format=form) for _ in range(2)]


def set_time(iteration: int, max_iters: int, max_epochs: int = 400) -> None:
    """Set iteration and epoch, which models read, as the Runner does."""
    hub = MessageHub.get_current_instance()
    epoch = max_epochs * iteration // max_iters
    for name, value in dict(iter=iteration, max_iters=max_iters, epoch=epoch, max_epochs=max_epochs).items():
        hub.update_info(name, value)
