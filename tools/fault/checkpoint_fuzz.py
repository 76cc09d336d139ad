"""Damage checkpoints in many ways, and see whether every way of loading them notices.

python tools/fault/checkpoint_fuzz.py                # 2,000 cases
python tools/fault/checkpoint_fuzz.py --sample       # 300 of them, under a minute

Trains two tiny models: US3L with SGD, and a classifier with AdamW, several groups, EMA and schedules by iteration.
Each case changes one thing in one of their checkpoints: bytes of the file, values of a tensor, the type of an entry,
or whether it is there. Then it is loaded as trainings, calibration and export do. All that was loaded is compared
with what the sound checkpoint gives, tensor by tensor:

    clear     an error names the file or the entry
    equal     the damage has no effect on what the file holds
    harmless  what the file holds has changed, what was loaded has not
    silent    something else was loaded, without an error
    unclear   an error that names neither

Left out, because nothing can tell: values that another run could have written, such as a smaller momentum; two
tensors of one shape that change places; texts that only describe the run; and load_from of a file that has lost its
averaged weights. Exits 1 if a case was silent or unclear.
"""

import argparse
import collections
import contextlib
import copy
import functools
import itertools
import logging
import pickle
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner, load_state_dict
from mmengine.utils import ProgressBar

from us3l_mm.config import read_config
from us3l_mm.deploy.plain_model import plain_model
from us3l_mm.engine import CheckLoadedHook, ResumableRunner
from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableBatchNorm2d, calibrate_bn
from us3l_mm.utils.arguments import count_from
from us3l_mm.utils.tables import markdown_table

ROOT = Path(__file__).parents[2]
OUTCOMES = ('clear', 'equal', 'harmless', 'silent', 'unclear')
CLEAR = (RuntimeError, ValueError, pickle.UnpicklingError)
NUMBERS = (int, float)
STATES = dict(state_dict='the weights', ema_state_dict='the weights', optimizer='the optimizer')
# Those that two places in a checkpoint hold, or the config, so that any other number is wrong.
CHECKED_NUMBERS = {'epoch', 'iter', 'seed', 'last_step', '_global_step', 'begin', 'T_max', 'eta_min', 'total_iters'}
CHECKED_NUMBERS |= {'start_factor', 'end_factor', 'gamma', 'momentum', 'weight_decay', 'eps', 'lr', 'initial_lr'}
# Texts and estimates about a run; mmengine writes them anew before anything reads them.
DESCRIPTIONS = ('eta', 'experiment_name', 'mmengine_version', 'loop_stage', 'dataset_meta')
BACKBONE = dict(
    type='us3l_mm.SlimmableResNet_CIFAR',
    depth=18,
    stem_channels=16,
    base_channels=16,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(1,),
)


class Case(NamedTuple):
    """One damage: of which checkpoint, of which kind, what it does in words, and how."""

    source: str
    kind: str
    what: str
    path: tuple
    change: Callable[[Any], Any]  # content, or bytes of the file, in place or returned


# --- What is damaged: small trainings ---


def us3l_config(folder: Path) -> Config:
    """US3L by SGD."""
    cfg = Config.fromfile(ROOT / 'configs/digits/r18_1xb64-16e_digits.py')
    small = dict(in_channels=32, hid_channels=32, out_channels=16)
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone={**BACKBONE, '_delete_': True}, neck=small, distill_predictor={**small, 'in_channels': 16}
            ),
            optim_wrapper=dict(_delete_=True, optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            param_scheduler=[dict(type='CosineAnnealingLR', T_max=2, by_epoch=True)],
        )
    )
    return finish(cfg, folder / 'us3l')


def classifier_config(folder: Path) -> Config:
    """A stock classifier by AdamW, with groups of their own for biases and norms, EMA, and two schedules."""
    cfg = Config.fromfile(ROOT / 'configs/digits/supervised_r18_1xb64-2e_digits.py')
    cfg.merge_from_dict(
        dict(
            model=dict(backbone={**BACKBONE, 'type': 'ResNet_CIFAR', '_delete_': True}, head=dict(in_channels=32)),
            optim_wrapper=dict(
                _delete_=True,
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, amsgrad=True),
                paramwise_cfg=dict(norm_decay_mult=0.0, bias_lr_mult=2.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
                dict(type='MultiStepLR', milestones=[1], by_epoch=True),
            ],
            custom_hooks=[*(cfg.get('custom_hooks') or []), dict(type='EMAHook')],
        )
    )
    return finish(cfg, folder / 'classifier')


def finish(cfg: Config, work_dir: Path) -> Config:
    """Set what both have, and write the config to its work dir."""
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            log_level='ERROR',
            train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=2),
            val_cfg=None,
            val_dataloader=None,
            val_evaluator=None,
            train_dataloader=dict(batch_size=16, num_workers=0, dataset=dict(per_class=5)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        )
    )
    cfg.visualizer = dict(type='mmengine.Visualizer', vis_backends=[])
    cfg.dump(str(work_dir) + '.py')
    return cfg


class Stop(Hook):
    """Stops a training just before its first iteration, once: the Runner is then ready to load."""

    priority = 'LOWEST'
    stopped = False

    def before_train(self, runner: Runner) -> None:
        if not self.stopped:
            self.stopped = True
            raise StopIteration


class Training:
    """A run that is ready to train, which loads checkpoints again and again."""

    def __init__(self, cfg: Config) -> None:
        self.runner = runner = ResumableRunner.from_cfg(cfg)
        runner.register_hook(Stop())
        with contextlib.suppress(StopIteration):
            runner.train()
        self.hub = MessageHub(f'{Path(cfg.work_dir).name}-fresh')
        self.hub.load_state_dict(runner.message_hub)
        self.averaged = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        self.fresh, self.optimizer = copy.deepcopy((self.state(), runner.optim_wrapper.state_dict()))

    def state(self) -> dict[str, Any]:
        """All that loading may change."""
        runner = self.runner
        hub = runner.message_hub.state_dict()
        for part in ('runtime_info', 'resumed_keys'):
            hub[part] = {key: value for key, value in hub[part].items() if key not in DESCRIPTIONS}
        optimizer = runner.optim_wrapper.state_dict()
        groups, known = optimizer['param_groups'], runner.optim_wrapper.optimizer.defaults.keys()
        # What no version of the optimizer knows is kept, but not read.
        groups = [
            {key: group[key] for key in group if key in known or key in ('params', 'initial_lr')} for group in groups
        ]
        if 'base_param_settings' in optimizer:  # which are there to schedule and to log
            base = optimizer['base_param_settings']
            optimizer['base_param_settings'] = {key: base[key] for key in base if key in ('lr', 'initial_lr')}
        return dict(
            model=runner.model.state_dict(),
            averaged=[model.state_dict() for model in self.averaged],
            optimizer={**optimizer, 'param_groups': groups},
            schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers],
            hub=hub,
            counters=(runner.epoch, runner.iter, runner.seed),
        )

    def reset(self) -> None:
        """Take back what was loaded, also by a load that failed in the middle."""
        runner, fresh = self.runner, copy.deepcopy(self.fresh)
        runner.model.load_state_dict(fresh['model'])
        for model, state in zip(self.averaged, fresh['averaged']):
            model.load_state_dict(state)
        runner.optim_wrapper.load_state_dict(copy.deepcopy(self.optimizer))
        for scheduler, state in zip(runner.param_schedulers, fresh['schedulers']):
            scheduler.__dict__ = {'optimizer': scheduler.optimizer, **state}
        runner.message_hub.load_state_dict(self.hub)
        runner.train_loop._epoch, runner.train_loop._iter = 0, 0  # as Runner.resume sets them
        runner.set_randomness(seed=0)

    def resume(self, path: Path) -> dict[str, Any]:
        """``tools/train.py --resume PATH``, up to the first iteration."""
        self.reset()
        self.runner._resume, self.runner._load_from = True, str(path)
        self.runner.resume(str(path), map_location='cpu')
        self.runner.call_hook('before_train')
        return self.state()

    def load_from(self, path: Path) -> dict[str, Any]:
        """``tools/train.py`` with ``load_from=PATH``."""
        self.reset()
        self.runner._resume, self.runner._load_from = False, str(path)
        self.runner.load_checkpoint(str(path))
        return self.state()


# --- Other ways in ---


def load_backbone(path: Path, width: float | None) -> dict[str, Any]:
    """``init_cfg`` of a backbone at a width, or at all widths."""
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    net = MODELS.build(dict(BACKBONE, width=width, init_cfg=init_cfg))
    net.init_weights()
    norms = [layer.calibrated for layer in net.modules() if isinstance(layer, SlimmableBatchNorm2d)]
    return dict(state=net.state_dict(), norms=norms)


def load_stock_backbone(path: Path) -> dict[str, Any]:
    """``init_cfg`` of a stock backbone, checked as ``tools/train.py`` does before it loads."""
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    net = MODELS.build(dict(BACKBONE, type='ResNet_CIFAR', init_cfg=init_cfg))
    CheckLoadedHook().before_run(SimpleNamespace(model=net, _resume=False))
    net.init_weights()
    return net.state_dict()


def load_to_calibrate(path: Path, config: Path) -> dict[str, Any]:
    """The load of ``tools/calibrate_bn.py``."""
    model = MODELS.build(read_config(str(config)).model)
    checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    load_state_dict(model, checkpoint.get('state_dict', checkpoint), strict=True)
    return model.state_dict()


def load_to_export(path: Path, config: Path) -> dict[str, Any]:
    """The load of ``tools/export_width.py``."""
    return plain_model(str(config), str(path), 0.5).model.state_dict()


def prepare(folder: Path) -> tuple[dict[str, Any], dict[tuple[str, str], Callable]]:
    """Train; return the sound checkpoints by name, and the ways in by the checkpoint that they load and their name."""
    contents, ways = {}, {}
    for name, cfg in (('us3l', us3l_config(folder)), ('classifier', classifier_config(folder))):
        ResumableRunner.from_cfg(cfg).train()
        contents[name] = CheckpointLoader.load_checkpoint(str(folder / name / 'epoch_1.pth'))
        training = Training(Config({**cfg.to_dict(), 'work_dir': str(folder / f'{name}-again')}))
        ways[name, 'resume'], ways[name, 'load_from'] = training.resume, training.load_from
    model = MODELS.build(read_config(str(folder / 'us3l.py')).model)
    model.load_state_dict(contents['us3l']['state_dict'])
    calibrate_bn(model.backbone, [1.0, 0.5], [torch.randn(8, 3, 16, 16)])
    contents['calibrated'] = dict(meta=contents['us3l']['meta'], state_dict=model.state_dict())
    config = folder / 'us3l.py'
    ways['us3l', 'calibrate_bn'] = functools.partial(load_to_calibrate, config=config)
    ways['classifier', 'stock init_cfg'] = load_stock_backbone
    ways['calibrated', 'init_cfg, width 0.5'] = functools.partial(load_backbone, width=0.5)
    ways['calibrated', 'init_cfg, all widths'] = functools.partial(load_backbone, width=None)
    ways['calibrated', 'export_width'] = functools.partial(load_to_export, config=config)
    return contents, ways


# --- How it is damaged ---


def walk(node: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yield the path and the value of each entry at each level."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key), value
        yield from walk(value, (*path, key))


def at(content: Any, path: tuple) -> Any:
    return functools.reduce(lambda node, key: node[key], path, content)


def put(content: Any, path: tuple, value: Callable[[Any], Any]) -> None:
    """Replace an entry by a function of it."""
    holder = at(content, path[:-1])
    holder[path[-1]] = value(holder[path[-1]])


def remove(content: Any, path: tuple) -> None:
    del at(content, path[:-1])[path[-1]]


def rename(content: Any, path: tuple) -> None:
    holder = at(content, path[:-1])
    holder[_other(path[-1])] = holder.pop(path[-1])


def repeat(content: Any, path: tuple) -> None:
    holder = at(content, path[:-1])
    if isinstance(holder, list):
        holder.append(copy.deepcopy(holder[path[-1]]))
    else:
        holder[_other(path[-1])] = copy.deepcopy(holder[path[-1]])


def _other(key: Any) -> Any:
    return key + 10_000 if isinstance(key, int) else f'{key}_'


def changes(content: Any) -> Iterator[tuple[str, str, tuple, Callable[[Any], None]]]:
    """Yield the kind of each change of an entry, what it does, the path of the entry, and the change."""
    for path, node in walk(content):
        yield 'missing', 'deleted', path, functools.partial(remove, path=path)
        yield 'extra', 'repeated', path, functools.partial(repeat, path=path)
        if isinstance(at(content, path[:-1]), dict):
            yield 'renamed', 'renamed', path, functools.partial(rename, path=path)
        found = [('type', *pair) for pair in other_types(node)]
        if isinstance(node, torch.Tensor):
            found += [('value', *pair) for pair in bad_tensors(path, node)]
        elif isinstance(node, NUMBERS) and not isinstance(node, bool):
            found += [('value', *pair) for pair in bad_numbers(path, node)]
        for kind, what, value in found:
            yield kind, what, path, functools.partial(put, path=path, value=value)


def other_types(node: Any) -> Iterator[tuple[str, Callable]]:
    """Values of other types in place of an entry."""
    others = [None, 'text', [], {}, 2.5, True]
    if isinstance(node, torch.Tensor):
        yield 'list', lambda tensor: tensor.tolist()
        yield 'ndarray', lambda tensor: tensor.numpy()
    elif isinstance(node, dict):
        yield 'list', lambda entries: list(entries.values())
    elif isinstance(node, (list, tuple)):
        yield 'dict', lambda entries: dict(enumerate(entries))
    elif isinstance(node, NUMBERS):
        yield 'text', str
    for other in others:
        numbers = isinstance(node, NUMBERS) and isinstance(other, float)  # a value, see bad_numbers
        if type(other) is not type(node) and not numbers and not (node is None and other is True):
            yield type(other).__name__, lambda _, other=other: copy.copy(other)


def bad_numbers(path: tuple, node: float) -> Iterator[tuple[str, Callable]]:
    if set(path) & {*DESCRIPTIONS, 'keep_ckpt_ids'}:
        return
    yield 'NaN', lambda _: float('nan')
    yield 'infinity', lambda _: float('inf')
    yield 'negative', lambda number: -1 - abs(number)
    if path[-1] in CHECKED_NUMBERS:
        yield 'one more', lambda number: number + 1
        yield 'half', lambda number: number / 2 + 0.1


def bad_tensors(path: tuple, node: torch.Tensor) -> Iterator[tuple[str, Callable]]:
    yield 'complex', lambda tensor: tensor.to(torch.complex64)
    yield 'sparse', lambda tensor: tensor.to_sparse()
    yield 'shape', lambda tensor: torch.stack([tensor, tensor])
    if not node.is_floating_point():
        return
    for what, number in (('NaN', float('nan')), ('infinity', float('inf')), ('-infinity', -float('inf'))):
        yield what, functools.partial(with_one, number=number)
        yield f'{what} everywhere', functools.partial(torch.full_like, fill_value=number)
    for dtype in (torch.int64, torch.bool, torch.float64):
        yield str(dtype), functools.partial(torch.Tensor.to, dtype=dtype)
    if path[0] == 'optimizer':  # a model may be loaded from half the precision
        yield 'torch.float16', torch.Tensor.half
    if node.numel():
        yield 'no values', lambda tensor: tensor.flatten()[:0]
    if any(name in str(path[-1]) for name in ('running_var', '_sq', 'step')):
        yield 'negative', functools.partial(with_one, number=-1e-3)


def with_one(tensor: torch.Tensor, number: float) -> torch.Tensor:
    """Copy of a tensor with one other value, in its middle."""
    tensor = tensor.clone()
    tensor.view(-1)[tensor.numel() // 2] = number
    return tensor


def damaged_bytes(draw: random.Random, size: int) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Yield changes of the bytes of a file, without end."""
    while True:
        place, length, bit = draw.randrange(size), draw.choice([1, 64, 4096]), 1 << draw.randrange(8)
        other = draw.randrange(size)
        yield f'bit {bit} of byte {place}', lambda b, p=place, x=bit: b[:p] + bytes([b[p] ^ x]) + b[p + 1 :]
        yield f'cut at {place}', lambda b, p=place: b[:p]
        yield f'{length} zeros at {place}', lambda b, p=place, n=length: (b[:p] + bytes(n) + b[p + n :])[: len(b)]
        yield f'{length} bytes appended', lambda b, p=place, n=length: b + b[p : p + n]
        yield f'{length} bytes left out at {place}', lambda b, p=place, n=length: b[:p] + b[p + n :]
        yield (
            f'{length} bytes of {other} at {place}',
            lambda b, p=place, o=other, n=length: (b[:p] + b[o : o + n] + b[p + n :])[: len(b)],
        )


def draw_cases(contents: dict, ways: dict, count: int, seed: int, size: int) -> list[tuple[Case, str]]:
    """Draw cases with their way in, as many of each kind as of the others where there are as many."""
    draw = random.Random(seed)
    waiting = collections.defaultdict(list)
    for source, content in contents.items():
        for kind, what, path, change in changes(content):
            for way in (way for owner, way in ways if owner == source):
                read = path[0] in ('state_dict', 'ema_state_dict') and path != ('ema_state_dict',)
                if way == 'resume' or read:
                    part = f'{kind}, in {STATES.get(path[0], "the rest") if len(path) > 1 else "the whole"}'
                    waiting[way, part].append((Case(source, part, what, path, change), way))
    for source, way in ways:
        some = itertools.islice(damaged_bytes(draw, size), count)
        waiting[way, 'bytes'] += [(Case(source, 'bytes', what, (), change), way) for what, change in some]
    for cases in waiting.values():
        draw.shuffle(cases)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*waiting.values()))
    return list(itertools.islice(filter(None, turns), count))


# --- What comes of it ---


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in type, structure and every number."""
    if isinstance(a, HistoryBuffer) and isinstance(b, HistoryBuffer):
        return all(map(np.array_equal, a.data, b.data))
    if type(a) is not type(b) and not (isinstance(a, dict) and isinstance(b, dict)):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.layout == b.layout and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b))


def relevant(state: Any) -> Any:
    """Leave out what nothing reads: batch norms with a momentum count batches, but do not use the number."""
    if not isinstance(state, dict):
        return state
    kept = {key: value for key, value in state.items() if not str(key).endswith('num_batches_tracked')}
    return {key: relevant(value) for key, value in kept.items()}


def write(case: Case, content: Any, whole: bytes, path: Path) -> None:
    """Write the damaged checkpoint."""
    if case.kind == 'bytes':
        path.write_bytes(case.change(whole))
    else:
        content = copy.deepcopy(content)
        case.change(content)
        torch.save(content, path)


def outcome(case: Case, load: Callable[[Path], Any], path: Path, sound: Any) -> tuple[str, str]:
    """Load a damaged checkpoint; return the outcome and the error."""
    try:
        found = load(path)
    except Exception as error:
        text = str(error)
        entry = str(case.path[-1]).rpartition('backbone.')[2] if case.path else path.name
        named = path.name in text or entry in text
        return 'clear' if named and isinstance(error, CLEAR) else 'unclear', f'{type(error).__name__}: {text}'
    if not same(relevant(found), relevant(sound)):
        return 'silent', 'loaded'
    return 'equal' if case.kind == 'bytes' else 'harmless', 'loaded'


def try_all(count: int, seed: int) -> tuple[dict[tuple[str, str], collections.Counter], list[str]]:
    """Try drawn cases; return outcomes by way in and damage, and what was silent or unclear."""
    tried, bad = collections.defaultdict(collections.Counter), []
    with tempfile.TemporaryDirectory() as folder:
        contents, ways = prepare(Path(folder))
        init_default_scope('mmpretrain')
        files, sound = {}, {}
        for (source, way), load in ways.items():
            path = Path(folder) / f'{source}.pth'
            torch.save(contents[source], path)
            files[source] = path.read_bytes()
            sound[source, way] = copy.deepcopy(load(path))
        cases = draw_cases(contents, ways, count, seed, min(map(len, files.values())))
        bar = ProgressBar(len(cases))
        path = Path(folder) / 'damaged.pth'
        for case, way in cases:
            write(case, contents[case.source], files[case.source], path)
            found, told = outcome(case, ways[case.source, way], path, sound[case.source, way])
            tried[way, case.kind][found] += 1
            if found in ('silent', 'unclear'):
                place = '.'.join(map(str, case.path))
                bad.append(f'{found}: {way}, {case.source}: {place} {case.what}: {told[:300]}')
            bar.update()
    return tried, bad


def main() -> int:
    parser = argparse.ArgumentParser(
        description='Damage checkpoints and load them', formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--count', type=count_from(1), default=2000, help='number of cases')
    parser.add_argument('--sample', action='store_true', help='300 cases, for a test')
    parser.add_argument('--seed', type=count_from(0), default=0, help='seed of the choice of cases')
    args = parser.parse_args()
    torch.set_num_threads(1)  # tiny nets
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            tried, bad = try_all(300 if args.sample else args.count, args.seed)
    finally:
        logging.disable(logging.NOTSET)
    total = sum(tried.values(), collections.Counter())
    rows = [*sorted(tried.items()), (('all', ''), total)]
    header = ('way in', 'damage', 'tried', *OUTCOMES)
    print('\n' + markdown_table(header, ((*key, row.total(), *(row[name] for name in OUTCOMES)) for key, row in rows)))
    print(*bad, sep='\n')
    return int(bool(bad))


if __name__ == '__main__':
    raise SystemExit(main())
