"""Calibrate a pretrained backbone: measure its batch-norm statistics at several widths, and save them with it.

python tools/calibrate_bn.py CONFIG CHECKPOINT --widths 1.0 0.75 0.5 0.25
"""

import argparse
import itertools
import os.path as osp
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, Runner, set_random_seed
from mmengine.utils import ProgressBar

from us3l_mm.slim import Width, WidthSampler, calibrate_bn, parse_width, width_label
from us3l_mm.utils.arguments import CfgOptions, count_from, run_main
from us3l_mm.utils.bad_values import first_few
from us3l_mm.utils.files import write_files
from us3l_mm.utils.match_checkpoint import Match, match_checkpoint
from us3l_mm.utils.tables import image_text

WIDTHS = [1.0, 0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Calibrate a checkpoint for several widths', formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        'config', help='config of the pretraining, such as configs/us3l/r18_4xb128.py; its training images are used'
    )
    parser.add_argument('checkpoint', help='checkpoint of the pretraining, such as work_dirs/x/epoch_100.pth')
    parser.add_argument(
        '--widths',
        type=parse_width,
        nargs='+',
        default=WIDTHS,
        help='widths to calibrate for, such as 0.5, or layer1=0.5,layer4=0.8 for parts',
    )
    parser.add_argument(
        '--num-batches', type=count_from(1), default=100, help='batches to average over, at most an epoch'
    )
    parser.add_argument('--prefix', help='prefix of the keys, such as model_ema., where a file has several copies')
    parser.add_argument('--out', help='file to write; <checkpoint>_calibrated.pth if not given, again if it is one')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    return parser.parse_args()


def images(cfg: Config, preprocessor: torch.nn.Module, num_batches: int) -> Iterator[torch.Tensor]:
    """Yield the first view of training batches (N, 3, H, W), with a progress bar."""
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    count = min(num_batches, len(loader))
    bar = ProgressBar(count)
    for batch in itertools.islice(loader, count):
        inputs = preprocessor(batch, False)['inputs']
        yield inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        bar.update()


def warn_of_untrained(sampler: WidthSampler, widths: list[Width]) -> None:
    """Warn if a sampler never draws some of the widths, or of those of parts."""
    (low, high), only = sampler.width_range, getattr(sampler, 'widths', None)
    parts = [width.values() if isinstance(width, dict) else [width] for width in widths]
    outside = [any(not low <= w <= high or (only and w not in only) for w in each) for each in parts]
    if any(outside):
        named = ' '.join(map(width_label, itertools.compress(widths, outside)))
        MMLogger.get_current_instance().warning(
            f'widths {named} were not trained, so expect little of them: the sampler of the config draws '
            f'{only or f"widths from {low:g} to {high:g}"}'
        )


def read_checkpoint(path: str, size: tuple[int, int] | None) -> tuple[dict, dict]:
    """Read a checkpoint and its ``meta``, with ``size`` as that of its images unless it has one."""
    logger = MMLogger.get_current_instance()
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger=logger)
    meta = dict(checkpoint.get('meta') or {})
    trained = meta['input_size'] = meta.get('input_size') or size
    if size and tuple(trained) != size:
        logger.warning(
            f'{path} was trained with images of {image_text(trained)}, this config has {image_text(size)}, whose '
            'statistics differ: give the options of the training'
        )
    return checkpoint, meta


def load_parts(model: torch.nn.Module, match: Match, needed: tuple[str, ...], name: str) -> set[str]:
    """Load the parts of a model that a checkpoint has, each whole, the needed ones among them; return their names."""
    found = {key.split('.')[0] for key in match.loaded}
    lacking = [part for part in needed if part not in found]
    lacking += [key for key in match.missing if key.split('.')[0] in found and not key.endswith('num_batches_tracked')]
    if lacking:
        raise RuntimeError(f'{name} lacks {len(lacking)} parts of {type(model).__name__}: {first_few(lacking)}')
    # By itself, the backbone refuses layers that it does not know.
    model.load_state_dict({key: value for key, value in match.state.items() if key.split('.')[0] in found}, False)
    return found


def main() -> None:
    args = parse_args()
    from us3l_mm.config import (
        describe_backbone,
        input_size,
        read_config,
        require_data,
    )  # here: --help need not wait for it
    from us3l_mm.models.multi_width.training import MultiWidthTraining

    cfg = read_config(args.config, args.cfg_options)
    require_data(cfg, ['train_dataloader'])
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    logger = MMLogger.get_instance('us3l_mm', log_level='INFO')
    set_random_seed(0)
    model = MODELS.build(cfg.model).to(args.device)
    checkpoint, meta = read_checkpoint(args.checkpoint, input_size(cfg))
    match = match_checkpoint(checkpoint, model, args.checkpoint, args.prefix, logger)
    several = isinstance(model, MultiWidthTraining)
    loaded = load_parts(model, match, model.slimmable_parts if several else ('backbone',), args.checkpoint)
    part = model.backbone
    if several:
        part = model.slimmable_part()
        warn_of_untrained(model.sampler, args.widths)
    seen = calibrate_bn(part, args.widths, images(cfg, model.data_preprocessor, args.num_batches))
    kept = {key: value.cpu() for key, value in model.state_dict().items() if key.split('.')[0] in loaded}
    out = args.out or f'{osp.splitext(args.checkpoint)[0].removesuffix("_calibrated")}_calibrated.pth'
    saved = {'meta': {**meta, **describe_backbone(cfg)}, 'state_dict': kept}
    write_files({Path(out): lambda part: torch.save(saved, part)}, force=True)
    widths = ' '.join(map(width_label, args.widths))
    logger.info(f'calibrated widths {widths} on {seen} batches, saved {out}')


if __name__ == '__main__':
    run_main(main)
