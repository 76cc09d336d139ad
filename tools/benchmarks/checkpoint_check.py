"""Time of the checks of a checkpoint: of US3L's ResNet-50 with AdamW, on one core.

python tools/benchmarks/checkpoint_check.py
"""

import argparse
import io
import time
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.registry import init_default_scope

from us3l_mm.engine.check_checkpoint import check_training_checkpoint, missing_parts
from us3l_mm.registry import MODELS
from us3l_mm.utils.arguments import count_from
from us3l_mm.utils.bad_values import find_bad_values
from us3l_mm.utils.match_checkpoint import match_checkpoint
from us3l_mm.utils.tables import markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(description='Measure the checks of a checkpoint')
    parser.add_argument('--config', default='configs/us3l/r50_8xb60.py', help='(default: %(default)s)')
    parser.add_argument(
        '--repeats', type=count_from(1), default=5, help='runs, the fastest counts (default: %(default)s)'
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    wrapper = OptimWrapper(torch.optim.AdamW([param for param in model.parameters() if param.requires_grad]))
    plan = CosineAnnealingLR(wrapper, T_max=2, by_epoch=True)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    wrapper.step()
    plan.step()
    info = dict(epoch=0, iter=0, seed=0, max_epochs=2, max_iters=2)
    checkpoint = dict(
        meta=dict(epoch=1, iter=1, seed=0),
        message_hub=dict(log_scalars={}, runtime_info=info, resumed_keys=dict.fromkeys(info, True)),
        state_dict=model.state_dict(),
        optimizer=wrapper.state_dict(),
        param_schedulers=[plan.state_dict()],
    )
    torch.save(checkpoint, file := io.BytesIO())
    loop = SimpleNamespace(max_epochs=2, max_iters=2)
    checks = {
        'values of the weights, whoever loads': lambda: find_bad_values(checkpoint['state_dict']),
        '--resume': lambda: check_training_checkpoint(checkpoint, model, wrapper, [plan], loop),
        'load_from': lambda: missing_parts(model, match_checkpoint(checkpoint, model, 'it', logger='silent').state),
    }
    rows = []
    for name, check in checks.items():
        times = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            check()
            times.append(time.perf_counter() - start)
        rows.append((name, f'{min(times):.3f}'))
    print(f'{args.config}: a checkpoint of {file.tell() / 2**20:.0f} MiB')
    print(markdown_table(('check', 'seconds'), rows))


if __name__ == '__main__':
    main()
