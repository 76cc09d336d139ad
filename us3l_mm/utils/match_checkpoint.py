"""Find the weights of a module in a checkpoint, whatever stands before their keys there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.logging import MMLogger, print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from .bad_values import first_few

_OF_ONE_WIDTH = re.compile(r'.*\.running_(mean|var)_.+')  # statistics, see SlimmableBatchNorm2d
# Of the copies in one file, methods evaluate the one of the least number here: DINO the teacher, MoCo and BYOL the
# online net, which is named neither.
_COPY = 0.9  # share of the most tensors from which on a place is taken for another copy
_COPIES = dict(teacher=1, student=2, encoder_k=2, momentum_encoder=2, target_net=2)


@dataclass(frozen=True)
class Match:
    """What a checkpoint has for a module.

    Attributes:
        prefix (str): What stands before the keys in the file, with its dot; ``''`` if nothing does.
        state (Mapping[str, Any]): Tensors by the keys of the module, with what else stands under that prefix.
        loaded (list[str]): Keys of the module that the checkpoint has.
        missing (list[str]): Those that it lacks.
        unexpected (list[str]): Keys of ``state`` that the module lacks.
    """

    prefix: str
    state: Mapping[str, Any]
    loaded: list[str]
    missing: list[str]
    unexpected: list[str]


def weights_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state dict of a checkpoint.

    Without an entry ``state_dict``, a file may hold state dicts by other names, as DINO's holds ``teacher`` and
    ``student``: their keys then start with that name and a dot.
    """
    state = checkpoint.get('state_dict')
    if isinstance(state, Mapping):
        return state
    if not any(isinstance(value, Mapping) for value in checkpoint.values()):
        return checkpoint
    flat = {}
    for key, value in checkpoint.items():
        if isinstance(value, Mapping):
            # Not the numbered states of an optimizer, nor what mmengine's EMAHook keeps beside a state_dict.
            if isinstance(key, str) and key != 'ema_state_dict':
                flat.update({f'{key}.{name}': tensor for name, tensor in weights_of(value).items()})
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if isinstance(value, Tensor)}


def match_checkpoint(
    checkpoint: Mapping[str, Any],
    module: nn.Module,
    name: str,
    prefix: str | None = None,
    logger: MMLogger | str = 'current',
) -> Match:
    """Find the weights of a module in a checkpoint by keys and shapes, and log what was found.

    The prefix under which most tensors match is taken. A file of a backbone alone fits a model with a ``backbone``.

    Args:
        checkpoint (Mapping[str, Any]): As mmengine's ``CheckpointLoader`` returns it.
        module (nn.Module): Module, wrapped or not, which is not changed.
        name (str): What messages call the checkpoint, best its path.
        prefix (str, optional): Prefix in the file, or its end. Defaults to None: found.
        logger (MMLogger | str): As for mmengine's ``print_log``; ``'silent'`` for none. Defaults to the current one.

    Returns:
        Match: The weights, and what is missing.

    Raises:
        RuntimeError: If the checkpoint has nothing for the module or under ``prefix``, or several copies of it.
    """
    module = module.module if is_model_wrapper(module) else module
    weights, shapes, own = weights_of(checkpoint), _shapes(module), module.state_dict()
    parts = ('', 'backbone.') if isinstance(getattr(module, 'backbone', None), nn.Module) else ('',)
    places = _places(weights, shapes, parts)
    if 2 * max((count for _, count in places.values()), default=0) < len(own):  # a part, or of another width or depth
        places = _places(weights, dict.fromkeys(shapes), parts)
    kind = type(module).__name__
    if not places:
        raise RuntimeError(f'checkpoint {name} has none of the {len(own)} keys of {kind}: it has {list(weights)[:3]}')
    (start, part), others = _choose(places, prefix, name, f'{len(own)} keys of {kind}')
    state = weights
    if start or part:
        state = {part + key[len(start) :]: value for key, value in weights.items() if key.startswith(start)}
    found = Match(
        prefix=start,
        state=state,
        loaded=[key for key in own if key in state],
        missing=[key for key in own if key not in state],
        unexpected=[key for key in state if key not in shapes and not _OF_ONE_WIDTH.match(key)],
    )
    print_log(_report(found, name, kind, others, len(weights)), logger)
    return found


def _report(match: Match, name: str, kind: str, others: list[str], count: int) -> str:
    parts = [other for other in others if any(key.startswith(other.removeprefix(match.prefix)) for key in match.loaded)]
    others = [other for other in others if other not in parts]  # US3L's own teacher is no other copy of US3L
    also = f' (others: {first_few([repr(other) for other in others])})' if others else ''
    missing, unexpected = (
        f'{len(keys)} ({first_few(keys)})' if keys else '0' for keys in (match.missing, match.unexpected)
    )
    loaded, total = len(match.loaded), len(match.loaded) + len(match.missing)
    return (
        f'{name}, prefix {match.prefix!r}{also}: {loaded} of {total} tensors of {kind}; missing: {missing}; '
        f'unexpected: {unexpected}; under other prefixes: {count - len(match.state)}'
    )


def _shapes(module: nn.Module) -> dict[str, set[tuple[int, ...]]]:
    """Shapes that each tensor of a module may have in a checkpoint: its own, and that before it was cut to a width."""
    shapes = {key: {tuple(getattr(value, 'shape', ()))} for key, value in module.state_dict().items()}
    for path, layer in module.named_modules():
        for key, shape in getattr(layer, 'full_shapes', {}).items():
            shapes.setdefault(f'{path}.{key}'.lstrip('.'), set()).add(shape)
    return shapes


def _places(
    weights: Mapping[str, Any], shapes: Mapping[str, set | None], parts: tuple[str, ...]
) -> dict[tuple[str, str], tuple[int, int]]:
    """Count the tensors behind each prefix that fit the whole module, ``''``, or its backbone alone.

    Args:
        weights (Mapping[str, Any]): Tensors of the checkpoint.
        shapes (Mapping[str, set | None]): Keys of the module with the shapes that fit, None for all.
        parts (tuple[str, ...]): ``''`` for the whole module, and ``'backbone.'`` if it has one.

    Returns:
        dict: By prefix and part, the number of tensors of the backbone, which decides, and of all.
    """
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for key, value in weights.items():
        shape, start = tuple(getattr(value, 'shape', ())), 0
        while True:
            for part in parts:
                name = part + key[start:]
                if name in shapes and (shapes[name] is None or shape in shapes[name]):
                    of_backbone, count = places.get((key[:start], part), (0, 0))
                    of_backbone += name.startswith('backbone.')
                    places[key[:start], part] = of_backbone, count + 1
            start = key.find('.', start) + 1
            if not start:
                break
    return places


def _choose(places: dict, prefix: str | None, name: str, what: str) -> tuple[tuple[str, str], list[str]]:
    """Choose a prefix and a part of the module; return the prefixes of other copies, too."""
    if prefix is not None:
        wanted = f'{prefix.rstrip(".")}.'.lstrip('.')
        given = {place: points for place, points in places.items() if place[0] == wanted} or {
            place: points for place, points in places.items() if wanted and f'.{place[0]}'.endswith(f'.{wanted}')
        }
        if not given:
            raise RuntimeError(
                f'checkpoint {name} has no entry that starts with {prefix!r}, see init_cfg; the {what} stand '
                f'behind {max(places, key=places.__getitem__)[0]!r}'
            )
        places = given
    decisive = int(not max(places.values())[0])  # tensors of the backbone, if there are any
    enough = _COPY * max(count[decisive] for count in places.values())
    copies = {place: count for place, count in places.items() if count[decisive] >= enough}
    # The evaluated copy, even if it lacks a tensor: another must not take its place unseen. Of its places the one with
    # most tensors, the whole module before its backbone alone, and keys as they are before those with a prefix.
    order = {
        place: (_rank(place[0]), -of_backbone, -count, place[1] != '', place[0] != '')
        for place, (of_backbone, count) in copies.items()
    }
    chosen = [place for place in copies if order[place] == min(order.values())]
    if len(chosen) > 1:
        raise RuntimeError(
            f'checkpoint {name} has the {what} {len(chosen)} times, under '
            f'{first_few([repr(place[0]) for place in chosen], 5)}. Name one, by `prefix` in the '
            'init_cfg of the backbone or by --prefix of `us3l calibrate`, which writes it alone'
        )
    return chosen[0], [start for start, part in copies if not part and start != chosen[0][0]]


def _rank(prefix: str) -> int:
    return max(_COPIES.get(part, 0) for part in prefix.split('.'))
