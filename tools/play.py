"""Slide the width of a checkpoint in the browser: nearest images, class and milliseconds of any image.

us3l play CALIBRATED_CHECKPOINT
us3l play CALIBRATED_CHECKPOINT --data-root FOLDER
us3l play CALIBRATED_CHECKPOINT --config us3l_mm::linear/r50_1xb256-100e_pets.py --widths 1.0 0.5

The page is served to this machine only. Of the images that it compares with, one part is labelled and votes for the
class, another one is there to try. Ctrl-C stops it.
"""

import argparse
import os.path as osp
from dataclasses import replace

import torch

from us3l_mm.slim import parse_single_width
from us3l_mm.utils.arguments import CfgOptions, add_own_images, checked, count_from, own_data, run_main

DIGITS, FOLDER = 'us3l_mm::digits/r18_1xb128-20e_digits.py', 'us3l_mm::linear/r18_1xb256-100e_folder.py'
ANY = (1.0, 0.75, 0.5, 0.25)  # widths of a network without batch norm, where none needs statistics


def parse_port(text: str) -> int:
    """Check a port."""
    if not text.isdigit() or int(text) > 65535:
        raise ValueError(f'a port is a whole number from 0 to 65535, got {text!r}')
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'checkpoint', help='checkpoint calibrated by `us3l calibrate`, such as epoch_100_calibrated.pth'
    )
    parser.add_argument(
        '--config',
        help='config of a linear probe, which has the labelled images, such as configs/linear/r50_1xb256-100e_pets.py; '
        'the digits, or those of --data-root, if not given',
    )
    parser.add_argument(
        '--widths', type=parse_single_width, nargs='+', help='widths, such as 1.0 0.5; all calibrated ones if not given'
    )
    parser.add_argument(
        '--num-images', type=count_from(8), default=1000, help='labelled images to compare with (default: %(default)s)'
    )
    parser.add_argument(
        '--samples', type=count_from(1), default=200, help='test images, some of them shown (default: %(default)s)'
    )
    parser.add_argument('--neighbours', type=count_from(1), default=8, help='nearest images (default: %(default)s)')
    add_own_images(parser)
    parser.add_argument('--port', type=checked(parse_port), default=0, help='port; 0 is a free one')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    args = parser.parse_args()
    if not osp.isfile(args.checkpoint):
        parser.error(f'no such file: {args.checkpoint}')
    if args.neighbours > args.num_images:
        parser.error(f'--neighbours {args.neighbours} are more than --num-images {args.num_images}: raise the latter')
    return args


def read_data(args: argparse.Namespace):
    """Read the config that has the labelled images, at the size that the checkpoint was trained with."""
    from us3l_mm.config import OwnData, find_class, input_size, read_config, require_data, trained_side
    from us3l_mm.models import LinearProbe

    own, side = OwnData(**own_data(args)), trained_side(args.checkpoint)
    path = args.config or (DIGITS if own.data_root is None else FOLDER)
    if own.data_root is not None and own.image_size is None:
        own = replace(own, image_size=side)
    cfg = read_config(path, args.cfg_options, own)
    kind = find_class((cfg.get('model') or {}).get('type'), cfg.get('default_scope'))
    if not issubclass(kind or object, LinearProbe):
        raise SystemExit(f'{path} is no linear probe, whose labelled images are needed: give one of configs/linear')
    size = input_size(cfg)
    if path == DIGITS and args.config is None and side and size != (side, side):
        raise SystemExit(
            f'{args.checkpoint} was trained with images of {side} pixels, the digits have {size[0]}: give images by '
            '--data-root FOLDER, or by --config, such as one of configs/linear'
        )
    require_data(cfg, ['train_dataloader', 'val_dataloader'])
    return cfg


def build_backbone(args: argparse.Namespace, cfg):
    """Load the backbone that the checkpoint tells, or else that of --config; and what normalises its images."""
    from mmengine.registry import MODELS
    from mmengine.runner import CheckpointLoader

    from us3l_mm.config import backbone_of_checkpoint
    from us3l_mm.utils.match_checkpoint import match_checkpoint

    try:
        told, pixels = backbone_of_checkpoint(args.checkpoint)
    except ValueError as error:
        if args.config is None:
            reason = str(error).rpartition('; ')[0]
            raise SystemExit(
                f'{reason}. Run `us3l calibrate CONFIG {args.checkpoint}` first, with the CONFIG of its training, and '
                'give the file that it writes; or give a linear probe with this backbone by --config'
            ) from None
        told, pixels = cfg.model.backbone, {}
    backbone = MODELS.build({**told, 'init_cfg': None})
    if backbone.width is not None:
        raise SystemExit(f'{args.checkpoint} has one width, {backbone.width}: there is nothing to slide')
    loaded = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu')
    backbone.load_state_dict(match_checkpoint(loaded, backbone, args.checkpoint).state, strict=False)
    known = {'type': 'mmpretrain.ClsDataPreprocessor', **(cfg.model.get('data_preprocessor') or {}), **pixels}
    return backbone, MODELS.build(known)


def choose_widths(args: argparse.Namespace, backbone) -> list[float]:
    """Take the widths that are asked for, or all that are calibrated."""
    from us3l_mm.slim import calibrated_widths, width_label

    ready = calibrated_widths(backbone)
    if ready is None:
        return list(args.widths or ANY)
    lacking = [width for width in args.widths or () if width not in ready]
    if lacking or not ready:
        have = ' '.join(map(width_label, ready)) or 'none'
        wanted = ' '.join(map(width_label, lacking or ANY))
        raise SystemExit(
            f'{args.checkpoint} is not calibrated for {wanted} (calibrated: {have}). Run `us3l calibrate CONFIG '
            f'{args.checkpoint} --widths {wanted}` first, with the CONFIG of its training'
        )
    return list(args.widths or ready)


def build(args: argparse.Namespace):
    """Read data and network, and extract the features of the labelled images."""
    import numpy as np
    from mmengine.registry import DATASETS, init_default_scope
    from mmengine.runner import Runner
    from torch.utils.data import Subset

    from us3l_mm.visualization.play import Player

    cfg = read_data(args)
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    backbone, preprocessor = build_backbone(args, cfg)
    widths = choose_widths(args, backbone)
    test = cfg.val_dataloader.dataset

    def draw(data: dict, count: int) -> Subset:
        dataset = DATASETS.build({**data, 'pipeline': test.pipeline})
        return Subset(dataset, np.random.RandomState(0).permutation(len(dataset))[:count].tolist())

    def batches(part: Subset):
        in_order = dict(type='DefaultSampler', shuffle=False)
        return Runner.build_dataloader(dict(cfg.val_dataloader, dataset=part, sampler=in_order, drop_last=False))

    labelled, samples = draw(cfg.train_dataloader.dataset, args.num_images), draw(test, args.samples)
    return Player(backbone, widths, preprocessor, labelled, samples, batches, args.neighbours, args.device)


def bind(port: int):
    """Take the port."""
    from us3l_mm.visualization.play import PlayServer

    try:
        return PlayServer(port)
    except OSError as error:
        reason = f'cannot serve at --port {port}: {error.strerror}; give another one, or none for a free one'
        raise SystemExit(reason) from None


def main() -> None:
    args = parse_args()
    from us3l_mm.slim import width_label

    with bind(args.port) as server:  # first: what follows takes long
        server.player = build(args)
        widths = ' '.join(width_label(row['width']) for row in server.player.rows)
        print(f'widths {widths}; Ctrl-C stops\n{server.url}', flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print('stopped')


if __name__ == '__main__':
    run_main(main)
