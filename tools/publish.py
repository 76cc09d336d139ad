"""Write the weights of a checkpoint alone, to pass on: without optimizer, log and teacher.

python tools/publish.py work_dirs/.../epoch_400_calibrated.pth --fp16    # epoch_400_calibrated_backbone_fp16-HASH.pth
"""

import argparse
import hashlib
import io
import re
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

import us3l_mm
from us3l_mm.slim import parse_key, width_label
from us3l_mm.utils.arguments import run_main
from us3l_mm.utils.files import write_files

# Of a batch norm: running_mean at width 1.0, else with the key of the width; or of a switchable one.
MEAN = re.compile(r'backbone\.(?:.*?\.)?(?:private\.([^.]+)\.running_mean|running_mean(?:_([^.]+))?)')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the weights of a checkpoint alone')
    parser.add_argument(
        'checkpoint', help='checkpoint of a training, best calibrated, such as work_dirs/NAME/epoch_400_calibrated.pth'
    )
    parser.add_argument(
        '--out',
        help='file to write, such as r50.pth, which becomes r50-HASH.pth with the first 8 digits of its SHA-256; '
        'CHECKPOINT_<part>-HASH.pth if not given',
    )
    parser.add_argument('--fp16', action='store_true', help='weights in float16; statistics stay in float32')
    parser.add_argument(
        '--part',
        choices=['backbone', 'all'],
        default='backbone',
        help='what to write: backbone, all that a probe or detector takes (default), or all parts but the teacher, to '
        'fine-tune or export a classifier or detector',
    )
    return parser.parse_args()


def select(state: dict[str, Tensor], part: str, name: str) -> dict[str, Tensor]:
    """Select the tensors of a part, by the keys of the model."""
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    kept = {key: value for key, value in state.items() if not key.startswith('teacher.')}
    if part == 'backbone':
        kept = {key: value for key, value in kept.items() if key.startswith('backbone.')}
    if not kept:
        raise SystemExit(
            f"{name} has no keys that start with 'backbone.', got {list(state)[:3]}: give a checkpoint that "
            '`us3l train` or `us3l calibrate` wrote'
        )
    return kept


def convert(key: str, value: Tensor, half: bool, name: str) -> Tensor:
    """Copy a tensor, in float16 or float32 if it has real numbers.

    Statistics stay in float32: variances may leave the range of float16 on both sides, and are small.
    """
    if not value.is_floating_point():
        return value.clone()
    if not half or key.rpartition('.')[2].startswith(('running_mean', 'running_var')):
        return value.float().clone()
    rounded = value.half()
    if not rounded.isfinite().all():
        raise SystemExit(
            f'{name} cannot be written in float16: {key} has values up to {value.abs().max():.3g}, float16 ends at '
            '65504; leave --fp16 out'
        )
    return rounded


def calibrated_widths(state: dict[str, Tensor]) -> list[str]:
    """List the widths that a backbone has statistics of, from the widest; 1 is all channels in the file."""
    found = [MEAN.fullmatch(key) for key, value in state.items() if value.any()]
    widths = [parse_key(key) for key in {one[1] or one[2] or '1' for one in found if one}]
    return list(map(width_label, sorted(widths, key=lambda width: 0 if isinstance(width, dict) else -width)))


def main() -> None:
    args = parse_args()
    source = Path(args.checkpoint)
    loaded = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu', logger='silent')
    state = select(loaded.get('state_dict', loaded), args.part, args.checkpoint)
    state = {key: convert(key, value, args.fp16, args.checkpoint) for key, value in state.items()}
    old = loaded.get('meta') or {}
    widths = calibrated_widths(state)
    meta = dict(us3l_mm_version=us3l_mm.__version__, part=args.part, source=source.name, widths=widths)
    # No text of a config: loading removes it, since mmengine would run it as Python.
    kept = ('input_size', 'dataset_meta') if args.part == 'all' else ('input_size',)
    meta.update({key: old[key] for key in kept if old.get(key)})
    torch.save(dict(meta=meta, state_dict=state), file := io.BytesIO())
    content = file.getvalue()
    out = args.out or str(source.with_suffix('')) + f'_{args.part}{"_fp16" if args.fp16 else ""}'
    out = Path(f'{out.removesuffix(".pth")}-{hashlib.sha256(content).hexdigest()[:8]}.pth')
    write_files({out: lambda path: path.write_bytes(content)}, force=True)  # its name says that it is the same
    sizes = [path.stat().st_size / 2**20 for path in (source, out)]
    told = f'widths {" ".join(widths)}' if widths else 'no width is calibrated: see `us3l calibrate`'
    if not any(map(MEAN.fullmatch, state)):
        told = 'no batch norm, so every width is ready'
    print(f'saved {out}: {args.part}, {told}; {sizes[0]:.2f} MiB became {sizes[1]:.2f} MiB')


if __name__ == '__main__':
    run_main(main)
