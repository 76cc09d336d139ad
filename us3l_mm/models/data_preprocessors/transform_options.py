"""Check the options of batched transforms once, before training, so that a batch need not."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from us3l_mm.slim import check_choice, check_dict, check_flag, check_list, check_number, check_range, check_size

from .random_ops import TRANSFORMS, transform_name


def check_transforms(transforms: Sequence[dict], name: str = 'transforms') -> None:
    """Check a list of transforms, written as for a pipeline of mmpretrain.

    Raises:
        TypeError: If an option is of the wrong type, or this is no list of dicts.
        ValueError: If a transform or an option is unknown, missing or out of its range.
    """
    for transform in check_list(name, transforms, dict, least=0):
        given = transform.get('type')
        kind = transform_name(given) if isinstance(given, (str, type)) else given
        kind = check_choice(f'type in {name}', kind, tuple(TRANSFORMS))
        options = {key: value for key, value in check_dict(kind, transform).items() if key != 'type'}
        try:
            inspect.signature(TRANSFORMS[kind]).bind(**options)
        except TypeError as error:
            raise ValueError(f'{kind} cannot take {options}: {error}') from error
        for option, value in options.items():
            _CHECKS[option](f'{kind}.{option}', value)


def _check_jitter(name: str, value: Any, low: float, high: float) -> None:
    """Check how far a factor may go from its centre, or the limits of the factor."""
    if isinstance(value, (list, tuple)):
        check_range(name, value, f'[{low}, {high}]')
    else:
        check_number(name, value, f'[0, {high}]')


def _check_kept(name: str, value: Any) -> None:
    """Check that images keep their channels."""
    if not check_flag(name, value):
        raise ValueError(f'{name} must be True, got False: the images of a batch have as many channels')


def _check_weights(name: str, value: Any) -> None:
    """Check a weight for each of three channels, whose sum is not zero."""
    weights = [check_number(f'each of {name}', weight, '[0, 1e6]') for weight in check_list(name, value)]
    if len(weights) != 3 or sum(weights) < 1e-6:
        raise ValueError(f'{name} must be three weights, not all zero, got {value!r}')


_CHECKS: dict[str, Callable[[str, Any], Any]] = dict(
    scale=check_size,
    crop_ratio_range=partial(check_range, interval='[0, 1]'),
    aspect_ratio_range=partial(check_range, interval='[1e-3, 1e3]'),
    backend=partial(check_choice, choices=('cv2', 'pillow')),
    prob=partial(check_number, interval='[0, 1]'),
    direction=partial(check_choice, choices=('horizontal', 'vertical')),
    transforms=lambda name, value: check_transforms(value, name),
    brightness=partial(_check_jitter, low=0, high=1e6),
    contrast=partial(_check_jitter, low=0, high=1e6),
    saturation=partial(_check_jitter, low=0, high=1e6),
    hue=partial(_check_jitter, low=-0.5, high=0.5),
    keep_channels=_check_kept,
    channel_weights=_check_weights,
    magnitude_range=partial(check_range, interval='[1e-3, 60]'),
    magnitude_std=partial(check_choice, choices=('inf',)),  # uniform in magnitude_range
    thr=partial(check_number, interval='[0, 256]'),
)
