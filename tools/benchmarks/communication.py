"""Calculate the bytes that each GPU sends in an iteration of US3L; nothing is trained.

python tools/benchmarks/communication.py --config configs/us3l/r50_8xb60.py --gpus 8 64 512

With ring algorithms each of P GPUs sends 2 (P - 1) / P S for an all-reduce of S bytes, and (P - 1) S for an all-gather
or a reduce-scatter of S bytes from each GPU.
"""

import argparse
import json

from mmengine.registry import MODELS, init_default_scope

from us3l_mm.config import read_config
from us3l_mm.models import US3L
from us3l_mm.slim import SlimmableBatchNorm2d, trace_channels
from us3l_mm.utils.arguments import count_from

FLOAT, DOUBLE, VIEWS = 4, 8, 2  # bytes, bytes, views
WIDTHS = (1.0, 0.625, 0.25)  # of the last stage; the middle one at its mean


def all_reduce(size: float, gpus: int) -> float:
    """Bytes that each GPU sends for an all-reduce of ``size`` bytes."""
    return 2 * (gpus - 1) / gpus * size


def parts_of(model: US3L) -> dict[str, int]:
    """Count the bytes of the gradients of each part."""
    names = ('backbone', 'neck', 'head', 'distill_predictor')
    parts = {name: getattr(model, name) for name in names if getattr(model, name) is not None}
    return {name: FLOAT * sum(p.numel() for p in part.parameters() if p.requires_grad) for name, part in parts.items()}


def norm_channels(model: US3L, width: float) -> int:
    """Count the channels of all slimmable batch norms of the backbone at a width."""
    norms = {name for name, layer in model.backbone.named_modules() if isinstance(layer, SlimmableBatchNorm2d)}
    return sum(count for name, count in trace_channels(model.backbone, width)[0].items() if name in norms)


def rows_of(model: US3L, batch: int, gpus: int) -> dict[str, float]:
    """Calculate the bytes that each GPU sends in an iteration, by kind."""
    gradients = all_reduce(sum(parts_of(model).values()), gpus)
    # Three numbers a channel: the student reduces them forward and their gradients backward, the teacher only forward.
    passes = 2 * sum(norm_channels(model, width) for width in WIDTHS) + norm_channels(model, 1.0)
    # Predictions and targets of both views; sent forward, and their gradients back. D is taken from the projector.
    rows = 2 * VIEWS * batch * getattr(model.neck, model.neck.fc_names[-1]).out_features * FLOAT
    return {
        "gradients, `update='per_width'`": len(WIDTHS) * gradients,
        "gradients, `update='accumulate'`": gradients,
        'synchronised batch norm of the backbone': all_reduce(VIEWS * 3 * DOUBLE * passes, gpus),
        'negatives of all GPUs, for each loss that has them': 2 * (gpus - 1) * rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default='configs/us3l/r50_8xb60.py', help='(default: %(default)s)')
    parser.add_argument('--gpus', type=count_from(1), nargs='+', default=[8, 64, 512], help='(default: %(default)s)')
    parser.add_argument('--batch', type=count_from(1), help='images per GPU; those of the config if not given')
    parser.add_argument('--out', help='JSON file to write')
    args = parser.parse_args()
    cfg = read_config(args.config)
    init_default_scope(cfg.default_scope)
    model, batch = MODELS.build(cfg.model), args.batch or cfg.train_dataloader.batch_size
    parts = parts_of(model)
    print(f'{args.config}, {batch} images a GPU, {len(WIDTHS)} widths an iteration, float32 gradients\n')
    print('| part | parameters | gradients (MB) |\n|---|---|---|')
    for name, size in {**parts, 'all': sum(parts.values())}.items():
        print(f'| {name} | {size // FLOAT:,} | {size / 1e6:.1f} |')
    table = {gpus: rows_of(model, batch, gpus) for gpus in args.gpus}
    print('\n| bytes sent by each GPU in an iteration (MB) | ' + ' | '.join(f'{gpus} GPUs' for gpus in table) + ' |')
    print('|---' * (1 + len(table)) + '|')
    for name in next(iter(table.values())):
        print(f'| {name} | ' + ' | '.join(f'{rows[name] / 1e6:,.1f}' for rows in table.values()) + ' |')
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(dict(arguments=vars(args), gradients=parts, sent=table), file, indent=2)


if __name__ == '__main__':
    main()
