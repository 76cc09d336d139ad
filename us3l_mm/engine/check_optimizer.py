"""Find what is wrong in the saved state of optimizers and of parameter schedulers."""

import copy
import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from mmengine.optim import BaseOptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from us3l_mm.utils.bad_values import find_bad_number

# What a scheduler changes while it runs; the last three are of ReduceOnPlateau.
_MOVING = {'_global_step', 'last_step', '_last_value', 'best', 'num_bad_epochs', 'cooldown_counter'}
_LOSS_SCALE = {'scale', '_growth_tracker'}


def optimizer_faults(
    wrapper: BaseOptimWrapper, saved: Any, where: str, scheduled: set[str], names: Mapping[int, str]
) -> Iterator[str]:
    """Yield what is wrong with the saved state of an optimizer.

    Args:
        wrapper (BaseOptimWrapper): Optimizer wrapper of the run.
        saved (Any): Its entry in the checkpoint.
        where (str): Name of that entry.
        scheduled (set[str]): Hyper-parameters that schedulers change, such as ``'lr'``.
        names (Mapping[int, str]): Names of the parameters of the model by their ``id``.
    """
    own = wrapper.state_dict()
    if not isinstance(saved, Mapping):
        yield f'{where} is a {type(saved).__name__}, not a dict'
        return
    for key in own.keys() ^ saved.keys():
        yield f'{where}.{key} is {"missing" if key in own else "not in this run"}'
    if own.keys() - saved.keys():
        return
    moving = scheduled | {f'initial_{name}' for name in scheduled}
    groups, own_groups = saved['param_groups'], own['param_groups']
    if not isinstance(groups, list) or len(groups) != len(own_groups):
        yield f'{where}.param_groups has {_size(groups)} groups, the optimizer {len(own_groups)}'
        return
    stepped = _after_a_step(wrapper.optimizer)
    for i, (mine, group, later) in enumerate(zip(own_groups, groups, stepped[0].param_groups)):
        # Some optimizers count in their groups.
        counts = {key: later[key] for key in later if key != 'params' and later[key] is not mine.get(key)}
        yield from setting_faults({**mine, **counts}, group, f'{where}.param_groups[{i}]', {*moving, *counts})
        if isinstance(group, Mapping) and 'params' in group and group['params'] != mine['params']:
            count, got = len(mine['params']), _size(group['params'])
            yield f'{where}.param_groups[{i}].params has {got} parameters, not the {count} of this run'
    if 'base_param_settings' in own:
        where_base = f'{where}.base_param_settings'
        yield from setting_faults(own['base_param_settings'], saved['base_param_settings'], where_base, moving)
    if 'loss_scaler' in own:
        yield from setting_faults(own['loss_scaler'], saved['loss_scaler'], f'{where}.loss_scaler', _LOSS_SCALE)
    yield from _state_faults(wrapper.optimizer, stepped, saved['state'], f'{where}.state', names)


def scheduler_faults(
    own: Mapping[str, Any], saved: Any, where: str, meta: Mapping[str, int], same_length: bool
) -> Iterator[str]:
    """Yield what is wrong with the saved state of one parameter scheduler.

    Args:
        own (Mapping[str, Any]): State of the scheduler of the run.
        saved (Any): Its entry in the checkpoint.
        where (str): Name of that entry.
        meta (Mapping[str, int]): ``epoch`` and ``iter`` of the checkpoint.
        same_length (bool): Whether this run is as long as the one that wrote the checkpoint. A longer one goes on with
            the schedule in the checkpoint, so that its ends may differ.
    """
    moving = _MOVING if same_length else own.keys()
    found = list(setting_faults(own, saved, where, moving))
    if not found and saved.keys() != own.keys():  # loading sets whatever attribute is there
        found = [f'{where} has the entries {sorted(map(str, saved))}, in this run {sorted(own)}']
    yield from found
    if found:
        return
    if own.get('need_val_args'):  # it counts validations
        return
    by = 'epoch' if own['by_epoch'] else 'iter'
    step, begin, end = (saved[key] for key in ('_global_step', 'begin', 'end'))
    expected = {'_global_step': meta[by], 'last_step': max(-1, min(step, end - 1) - begin)}
    for key, value in expected.items():
        if saved[key] != value:
            yield f'{where}.{key} is {saved[key]}, not {value}, which belongs to meta.{by} {meta[by]}'


def value_faults(schedulers: Sequence[Mapping[str, Any]], optimizer: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield where saved schedulers and the saved optimizer that they control do not belong together.

    Args:
        schedulers (Sequence[Mapping[str, Any]]): Saved states of sound schedulers.
        optimizer (Mapping[str, Any]): Saved state of a sound optimizer.
        where (str): Name of the schedulers' entry.
    """
    groups = [*optimizer['param_groups'], *filter(None, [optimizer.get('base_param_settings')])]
    for name in sorted({scheduler['param_name'] for scheduler in schedulers}):
        mine = [(i, scheduler) for i, scheduler in enumerate(schedulers) if scheduler['param_name'] == name]
        now, initial = ([group[key] for group in groups] for key in (name, f'initial_{name}'))
        for i, scheduler in mine:
            if scheduler['base_values'] != initial:
                yield f'{where}[{i}].base_values {scheduler["base_values"][:3]} are not initial_{name} {initial[:3]}'
        last = [scheduler['_last_value'] for _, scheduler in mine]
        if now not in last:  # that of the scheduler which stepped last
            yield f'{where}[{mine[-1][0]}]._last_value {last[-1][:3]} is not the {name} {now[:3]} of the optimizer'


def setting_faults(own: Mapping[str, Any], saved: Any, where: str, moving: Any = ()) -> Iterator[str]:
    """Yield entries of ``saved`` that are missing, of another kind, or differ from ``own`` and are not ``moving``."""
    if not isinstance(saved, Mapping):
        yield f'{where} is a {type(saved).__name__}, not a dict'
        return
    for one, other, what in ((own, saved, 'missing'), (saved, own, 'not in this run')):
        for key, value in one.items():
            if key not in other and value is not None and value is not False:  # options of other torch versions are off
                yield f'{where}.{key} is {what}'
    for key in own.keys() & saved.keys():
        mine = own[key]
        got = saved[key]
        if not _fits(mine, got):
            yield f'{where}.{key} is {got!r:.60}, which cannot stand for {mine!r:.60}'
        elif key not in moving and key != 'params' and got != mine:
            yield f'{where}.{key} is {got!r:.60}, in this run {mine!r:.60}'


def _fits(mine: Any, got: Any) -> bool:
    """Whether ``got`` is a possible value where a sound run has ``mine``."""
    if mine is None or isinstance(mine, bool):
        return got is None or isinstance(got, bool)
    if isinstance(mine, Real) or (isinstance(mine, Tensor) and mine.numel() == 1):
        if isinstance(got, bool) or not (isinstance(got, Real) or (isinstance(got, Tensor) and got.numel() == 1)):
            return False
        return not math.isfinite(mine) or (math.isfinite(got) and (got >= 0 or mine < 0))
    if isinstance(mine, (list, tuple)):
        same = isinstance(got, (list, tuple)) and len(mine) == len(got)
        return same and all(map(_fits, mine, got))
    return isinstance(got, type(mine))


def _size(value: Any) -> str:
    return str(len(value)) if isinstance(value, (list, tuple)) else f'a {type(value).__name__} in place of'


def _state_faults(
    optimizer: Optimizer, stepped: Sequence[Optimizer], state: Any, where: str, names: Mapping[int, str]
) -> Iterator[str]:
    """Yield what is wrong with the state of each parameter, by the states of ``stepped`` copies of the optimizer."""
    if not isinstance(state, Mapping):
        yield f'{where} is a {type(state).__name__}, not a dict'
        return
    params = _params(optimizer)
    for key in state.keys() - set(range(len(params))):
        yield f'{where}[{key!r}] belongs to none of the {len(params)} parameters'
    examples = [[copied.state[param] for param in _params(copied)] for copied in stepped]
    for i, (param, *after) in enumerate(zip(params, *examples)):
        if i not in state:
            continue
        owner = f'{where}[{i}] ({names.get(id(param), "unnamed")})'
        entries = state[i]
        if not isinstance(entries, Mapping) or entries.keys() != after[0].keys():
            got = sorted(map(str, entries)) if isinstance(entries, Mapping) else type(entries).__name__
            yield f'{owner} has {got}, {type(optimizer).__name__} needs {sorted(after[0])}'
            continue
        for key, value in entries.items():
            fault = _entry_fault(value, param, [states[key] for states in after])
            if fault:
                yield f'{owner}.{key} {fault}'


def _params(optimizer: Optimizer) -> list[nn.Parameter]:
    return [param for group in optimizer.param_groups for param in group['params']]


def _after_a_step(optimizer: Optimizer) -> list[Optimizer]:
    """Copies of an optimizer with tiny parameters, after a step with gradients of 1, and one of -1.

    They tell, of any optimizer, which entries its state has, which of them have the shape of the parameter, and which
    are never negative: second moments and counters are positive after both.
    """
    found = []
    for gradient in (1.0, -1.0):
        copied = object.__new__(type(optimizer))
        copied.__dict__.update(optimizer.__dict__)
        copied.__dict__.update(_optimizer_step_pre_hooks=OrderedDict(), _optimizer_step_post_hooks=OrderedDict())
        copied.state, copied.param_groups = defaultdict(dict), []
        for group in optimizer.param_groups:
            tiny = [nn.Parameter(param.new_zeros([2] * param.dim())) for param in group['params']]
            copied.param_groups.append({**group, 'params': tiny})
            for param, small in zip(group['params'], tiny):
                small.grad = torch.full_like(small, gradient)
                for key, value in optimizer.state.get(param, {}).items():  # some have state before their first step
                    like_param = isinstance(value, Tensor) and value.shape == param.shape
                    copied.state[small][key] = torch.zeros_like(small) if like_param else copy.deepcopy(value)
        type(optimizer).step(copied)  # the optimizer's own method, which schedulers have replaced to count its calls
        found.append(copied)
    return found


def _entry_fault(value: Any, param: Tensor, after: Sequence[Any]) -> str | None:
    """Say what is wrong with an entry of the state of a parameter, which is ``after`` steps of a tiny one."""
    example = after[0]
    if not isinstance(example, Tensor):
        return None if _fits(example, value) else f'is {value!r:.60}, which cannot stand for {example!r:.60}'
    if not isinstance(value, Tensor) or (value.dtype, value.layout) != (example.dtype, example.layout):
        return f'is {value!r:.60}, not a tensor of {example.dtype}'
    like_param = example.shape == torch.Size([2] * param.dim())
    shape = param.shape if like_param else example.shape
    if (like_param or example.numel() == 1) and value.shape != shape:
        return f'has shape {tuple(value.shape)}, not {tuple(shape)}'
    fault = find_bad_number(value)
    if fault is None and value.numel() and all((tensor > 0).all() for tensor in after) and (value < 0).any():
        return f'is negative in {int((value < 0).sum())} of {value.numel()} values'
    return None if fault is None else f'has {fault}'
