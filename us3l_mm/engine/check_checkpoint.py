"""Check that a checkpoint has what a run is about to take from it."""

import contextlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from mmengine.logging import HistoryBuffer
from mmengine.model import PretrainedInit, is_model_wrapper
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, CheckpointLoader, IterBasedTrainLoop
from torch import Tensor, nn

from us3l_mm.slim import SlimmableBatchNorm2d, meta_copy
from us3l_mm.utils.bad_values import find_bad_values, first_few
from us3l_mm.utils.match_checkpoint import match_checkpoint
from us3l_mm.utils.sealed import unseal

from .check_optimizer import optimizer_faults, scheduler_faults, value_faults

_STATISTICS = re.compile(r'(.*)\.running_(mean|var)_.+')  # of one width, see SlimmableBatchNorm2d
# mmengine's entries of message_hub.runtime_info that a run reads. `cfg` is taken out when a checkpoint is loaded.
_INFO = dict(epoch=int, iter=int, max_epochs=int, max_iters=int, seed=int)
_SEALED = ('cost', 'monitor')  # records of hooks
_OPTIONAL_INFO = dict(eta=Real, keep_ckpt_ids=list, last_ckpt=str, loop_stage=str, experiment_name=str)


def check_training_checkpoint(
    checkpoint: Mapping[str, Any],
    model: nn.Module,
    optim_wrapper: BaseOptimWrapper,
    param_schedulers: Any,
    train_loop: BaseLoop,
    *,
    ema_model: nn.Module | None = None,
    name: str = 'the checkpoint',
) -> None:
    """Raise unless a run can go on from a checkpoint exactly where that left off.

    What cannot be told: values that another run could have written, such as another momentum of the same shape.

    Args:
        checkpoint (Mapping[str, Any]): As mmengine's ``CheckpointLoader`` returns it.
        model (nn.Module): Model of the run, wrapped or not.
        optim_wrapper (BaseOptimWrapper): Built optimizer wrapper, or a dict of them.
        param_schedulers (list | dict | None): Built schedulers, as the Runner has them.
        train_loop (BaseLoop): Training loop of the run, which knows its length.
        ema_model (nn.Module, optional): ``ema_model`` of an ``EMAHook``. Defaults to None: there is no such hook.
        name (str): What errors call the checkpoint, best its path.

    Raises:
        RuntimeError: If something is missing, of another model, optimizer or schedule, not finite, or contradicts
            itself. It names the first faults.
    """
    model = model.module if is_model_wrapper(model) else model
    _check_kind(checkpoint, name)
    meta, hub, fix = checkpoint['meta'], checkpoint['message_hub'], 'Take another checkpoint of this run'
    _refuse(_meta_faults(meta, train_loop), name, fix)
    _refuse(_hub_faults(hub, meta), name, fix)
    fix = 'Resume with the config of that run, or start from its weights by load_from'
    _refuse(model_faults(model, checkpoint['state_dict'], 'state_dict'), name, fix)
    if ema_model is None and 'ema_state_dict' in checkpoint:
        _refuse(['it has averaged weights, ema_state_dict, and this run no EMAHook'], name, fix)
    elif ema_model is not None:
        _refuse(model_faults(ema_model, checkpoint.get('ema_state_dict'), 'ema_state_dict'), name, fix)
    names = {id(param): key for key, param in model.named_parameters()}
    lengths = ('max_epochs', 'max_iters')
    same_length = all(hub['runtime_info'][key] == getattr(train_loop, key) for key in lengths)
    _refuse(_training_faults(checkpoint, optim_wrapper, param_schedulers, names, same_length), name, fix)


def missing_parts(model: nn.Module, state: Mapping[str, Any]) -> str | None:
    """Say what of a model would keep its random values if weights were loaded.

    The weights are loaded into a copy without memory, so that whatever the model does while it loads is done, such as
    cutting a checkpoint to a width. Nothing is changed.

    Args:
        model (nn.Module): Model, wrapped or not.
        state (Mapping[str, Any]): State dict for the model, see :func:`match_checkpoint`.

    Returns:
        str | None: The parts, with the number of their tensors; None if the state has all.

    Raises:
        RuntimeError: If the checkpoint is of another backbone.
    """
    model = model.module if is_model_wrapper(model) else model
    own = model.state_dict()
    missing, misfit = _try_to_load(model, dict(state))
    if missing:  # what is missing even if it is given, the model takes out while it loads, and makes anew
        with contextlib.suppress(RuntimeError):  # a part refuses its own random values: it misses them
            missing -= _try_to_load(model, {**state, **{key: own[key] for key in missing & own.keys()}})[0]
    if not missing and not misfit:
        return None
    parts = Counter('.'.join(key.split('.')[:-1][:2]) or key for key in [*sorted(missing), *misfit])
    shapes = [f'{key}: {tuple(state[key].shape)} for {tuple(own[key].shape)}' for key in misfit if key in own]
    other = f' ({len(misfit)} have other shapes: {first_few(shapes)})' if misfit else ''
    return (
        f'it has nothing for {len(missing) + len(misfit)} of {len(own)} tensors: '
        f'{first_few([f"{part} ({count})" for part, count in parts.items()])}{other}'
    )


def pretrained_parts(model: nn.Module) -> Iterator[tuple[nn.Module, str, Mapping[str, Any]]]:
    """Yield the modules that ``init_cfg`` loads a checkpoint into, its path, and its state dict for that module.

    Args:
        model (nn.Module): Model before ``init_weights``.

    Raises:
        RuntimeError: If a checkpoint cannot be loaded, or has nothing for its module.
    """
    for module in model.modules():
        cfgs = getattr(module, 'init_cfg', None) or []
        for cfg in [cfgs] if isinstance(cfgs, dict) else cfgs:
            if cfg['type'] in ('Pretrained', PretrainedInit):
                path = cfg['checkpoint']
                loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
                yield module, path, match_checkpoint(loaded, module, path, cfg.get('prefix'), 'silent').state


def model_faults(model: nn.Module, state: Any, where: str) -> Iterator[str]:
    """Yield differences between the tensors of a model and those of a checkpoint of it.

    Args:
        model (nn.Module): Model, not wrapped.
        state (Any): Its state in the checkpoint. Statistics of single widths may be there or not.
        where (str): Name of that entry.
    """
    if not isinstance(state, Mapping):
        yield f'{where} is missing or a {type(state).__name__}, not a dict'
        return
    bad = find_bad_values(state)
    if bad is not None:
        yield f'{where}: {bad}'
    norms = {name for name, layer in model.named_modules() if isinstance(layer, SlimmableBatchNorm2d)}
    own = {key: value for key, value in model.state_dict().items() if not _of_one_width(key, norms)}
    given = {key: value for key, value in state.items() if not _of_one_width(key, norms)}
    for keys, what in ((own.keys() - given.keys(), 'lacks'), (given.keys() - own.keys(), 'has unknown')):
        if keys:
            yield f'{where} {what} {len(keys)} tensors of {len(own)}: {first_few(sorted(map(str, keys)))}'
    for key in own.keys() & given.keys():
        mine, got = own[key], given[key]
        if isinstance(mine, Tensor):
            form = (tuple(got.shape), got.dtype) if isinstance(got, Tensor) else type(got).__name__
            if form != (tuple(mine.shape), mine.dtype):
                yield f'{where}: {key} is {form}, not {tuple(mine.shape), mine.dtype}'


def count_states(optim_wrapper: BaseOptimWrapper) -> dict[str, int]:
    """Number of parameters that an optimizer has state of, by the name of the optimizer, ``''`` for a single one."""
    return {name: len(one.optimizer.state) for name, one in _by_name(optim_wrapper)}


def _by_name(optim_wrapper: BaseOptimWrapper) -> Iterable[tuple[str, Any]]:
    return optim_wrapper.items() if isinstance(optim_wrapper, OptimWrapperDict) else [('', optim_wrapper)]


def _refuse(faults: Iterable[str], name: str, fix: str) -> None:
    found = list(faults)
    if found:
        raise RuntimeError(f'cannot resume from {name}: {first_few(found)}. {fix}')


def _check_kind(checkpoint: Mapping[str, Any], name: str) -> None:
    """Raise RuntimeError if a file was not written by a training."""
    lacking = [key for key in ('state_dict', 'meta', 'message_hub', 'optimizer') if key not in checkpoint]
    if not lacking:
        return
    state = checkpoint.get('state_dict', checkpoint)
    keys = state if isinstance(state, Mapping) else ()
    kind = 'a calibrated checkpoint' if any(map(_STATISTICS.fullmatch, map(str, keys))) else 'weights for other uses'
    what = kind if 'optimizer' in lacking else 'damaged'
    _refuse(
        [f'it has no {", ".join(lacking)}, it is {what}'],
        name,
        'Give a checkpoint that a training wrote, epoch_*.pth or iter_*.pth, or start from its weights by load_from',
    )


def _meta_faults(meta: Any, train_loop: BaseLoop) -> Iterator[str]:
    """Faults of ``meta``; a run by epochs may have had longer ones before, so that only its epochs have an end."""
    by_iter = isinstance(train_loop, IterBasedTrainLoop)
    limits = dict(iter=train_loop.max_iters) if by_iter else dict(epoch=train_loop.max_epochs)
    if not isinstance(meta, Mapping):
        yield f'meta is a {type(meta).__name__}, not a dict'
        return
    for key in ('epoch', 'iter', 'seed'):
        value = meta.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            yield f'meta.{key} is {value!r:.60}, not a whole number from 0' if key in meta else f'meta.{key} is missing'
        elif key in limits and value > limits[key]:
            yield f'meta.{key} is {value}, this run ends at {limits[key]}'


def _hub_faults(hub: Any, meta: Mapping[str, Any]) -> Iterator[str]:
    """Faults of ``message_hub``, which must agree with ``meta`` and hold what it says it holds."""
    parts = [
        hub.get(key) if isinstance(hub, Mapping) else None for key in ('log_scalars', 'runtime_info', 'resumed_keys')
    ]
    if not all(isinstance(part, Mapping) for part in parts):
        yield 'message_hub is no dict of dicts log_scalars, runtime_info and resumed_keys'
        return
    scalars, info, resumed = parts
    for key in sorted(map(str, (resumed.keys() ^ (scalars.keys() | info.keys())) - {'cfg', 'config'})):
        yield f'message_hub has {key!r} in resumed_keys or as a value, not in both'
    for key, value in scalars.items():
        if not isinstance(value, HistoryBuffer):
            yield f'message_hub.log_scalars[{key!r}] is a {type(value).__name__}, not a history'
    for key, value in resumed.items():
        if value is not True:
            yield f'message_hub.resumed_keys[{key!r}] is {value!r:.60}, not True'
    for key, kind in {**_INFO, **_OPTIONAL_INFO}.items():
        value = info.get(key)
        if key in info and (not isinstance(value, kind) or isinstance(value, bool)):
            yield f'message_hub.runtime_info.{key} is {value!r:.60}, not of type {kind.__name__}'
        elif key not in info and key in _INFO:
            yield f'message_hub.runtime_info.{key} is missing'
    for key in info.keys() & set(_SEALED):
        try:
            unseal(info[key], f'message_hub.runtime_info.{key}')
        except ValueError as error:
            yield str(error)
    # The hub has the epoch and the iteration that ran last, meta those to come.
    possible = dict(epoch=[meta['epoch'], meta['epoch'] - 1], iter=[max(meta['iter'] - 1, 0)], seed=[meta['seed']])
    for key, values in possible.items():
        if info.get(key) not in values:
            yield f'meta.{key} is {meta[key]}, message_hub.runtime_info.{key} is {info.get(key)!r:.60}'


def _of_one_width(key: str, norms: set[str]) -> bool:
    """Whether a tensor is a statistic of one width, which a slimmable batch norm has or has not."""
    found = _STATISTICS.fullmatch(str(key))
    return found is not None and found.group(1).removeprefix('module.') in norms


def _training_faults(
    checkpoint: Mapping[str, Any], optim_wrapper: BaseOptimWrapper, schedulers: Any, names: dict, same_length: bool
) -> Iterator[str]:
    """Faults of optimizers and schedulers."""
    meta, saved, plans = checkpoint['meta'], checkpoint['optimizer'], checkpoint.get('param_schedulers')
    several = isinstance(optim_wrapper, OptimWrapperDict)
    counts = meta.get('optimizer_states')
    for name, wrapper in _by_name(optim_wrapper):
        own, found = (
            (schedulers, plans) if not isinstance(schedulers, dict) else (schedulers[name], _entry(plans, name))
        )
        own = [scheduler.state_dict() for scheduler in own or []]
        place, plan = (f'{part}.{name}' if several else part for part in ('optimizer', 'param_schedulers'))
        state = _entry(saved, name) if several else saved
        faults = list(optimizer_faults(wrapper, state, place, {one['param_name'] for one in own}, names))
        if not faults and counts is not None and _entry(counts, name) != len(state['state']):
            faults = [f'{place}.state has {len(state["state"])} parameters, it was saved with {_entry(counts, name)}']
        if not isinstance(found or [], list) or len(found or []) != len(own):
            faults.append(f'{plan} is {found!r:.60}, this run has {len(own)} schedulers')
        else:
            pairs = enumerate(zip(own, found or []))
            plan_faults = [f for i, pair in pairs for f in scheduler_faults(*pair, f'{plan}[{i}]', meta, same_length)]
            faults += plan_faults or ([] if faults else value_faults(found or [], state, plan))
        yield from faults


def _entry(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _try_to_load(model: nn.Module, state: dict[str, Any]) -> tuple[set[str], list[str]]:
    """Load a state into a copy without memory; return the keys that it lacks, and those whose tensors do not fit.

    Raises:
        RuntimeError: If a part of the model refuses the state by itself.
    """
    trial, missing, misfit = meta_copy(model), [], []
    trial.register_load_state_dict_post_hook(lambda _, keys: missing.extend(keys.missing_keys))
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)  # what was sliced is told when it really is
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*copying from a non-meta parameter')
            trial.load_state_dict(state, strict=False)
    except RuntimeError as error:
        misfit = re.findall(r'(?:size mismatch for |copying the parameter named ")([\w.]+)', str(error))
        if not misfit:
            raise
    finally:
        logging.disable(disabled)
    return {key for key in missing if not key.endswith('num_batches_tracked')}, misfit
