"""Which values each option of ours may have, said a second time and apart from the code, and values to try."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Domain = Callable[[Any], bool]


def number(low: float = -math.inf, high: float = math.inf, without: tuple[float, ...] = ()) -> Domain:
    """Finite numbers of float32 from ``low`` to ``high``, but for some; booleans are no numbers."""

    def legal(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            return False
        return abs(value) < 3.4e38 and low <= value <= high and value not in without

    return legal


def whole(least: int, most: int = 2**63 - 1) -> Domain:
    return lambda v: isinstance(v, (int, np.integer)) and not isinstance(v, bool) and least <= v <= most


def flag(value: Any) -> bool:
    return value is True or value is False


def one_of(*choices: Any) -> Domain:
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def either(*domains: Domain) -> Domain:
    return lambda value: any(domain(value) for domain in domains)


def nothing(value: Any) -> bool:
    return value is None


def never(value: Any) -> bool:
    return False


def several(each: Domain, least: int = 1, most: float = math.inf) -> Domain:
    return lambda v: isinstance(v, (list, tuple)) and least <= len(v) <= most and all(each(item) for item in v)


def limits(each: Domain) -> Domain:
    return lambda value: several(each, 2, 2)(value) and value[0] <= value[1]


def different(value: Any) -> bool:
    """Whether numbers differ in their first six digits, by which names tell widths apart."""
    return len({f'{item:.6g}' for item in value}) == len(value)


def empty_dict(value: Any) -> bool:
    return isinstance(value, dict) and not value


WIDTH = number(0, 1, without=(0,))
SIDES = either(whole(1, 100_000), several(whole(1, 100_000), 2, 2))
UNIT = number(0, 1)
JITTER = either(number(0, 1e6), limits(number(0, 1e6)))


def widths(value: Any) -> bool:
    return several(WIDTH)(value) and different(value)


DOMAINS: dict[str, Domain] = {
    # layers, in the bases below of 8 channels
    'affine': flag,
    'allow_missing': flag,
    'bias': flag,
    'dilation': SIDES,
    'eps': number(1e-12),
    'groups': lambda value: whole(1)(value) and 8 % value == 0,
    'in_channels': whole(1),
    'in_features': whole(1),
    'kernel_size': SIDES,
    'num_features': whole(1),
    'out_channels': whole(1),
    'out_features': whole(1),
    'padding': either(whole(0, 100_000), several(whole(0, 100_000), 2, 2), one_of('same', 'valid')),
    'padding_mode': one_of('zeros', 'reflect', 'replicate', 'circular'),
    'ratio': lambda value: whole(1)(value) and 8 % value == 0,
    'rounding': one_of('divisible', 'int'),
    'slim_in': flag,
    'slim_out': flag,
    'stride': SIDES,
    'sync': flag,
    'track_running_stats': flag,
    'SlimmableBatchNorm2d.momentum': either(nothing, UNIT),
    'SlimmableBatchNorm2d.track_running_stats': one_of(True),
    'SwitchableBatchNorm2d.momentum': either(nothing, UNIT),
    'channels': whole(1),
    'width': WIDTH,
    'widths': widths,
    # several widths
    'alpha': number(0, 1 / 7, without=(1 / 7,)),
    'by_epoch': flag,
    'coefficient': UNIT,
    'dynamic': flag,
    'group_reg': either(nothing, empty_dict, lambda value: value == {'alpha': 0.1}),
    'linear_inputs': flag,
    'micro_batches': whole(1),
    'num_groups': whole(1, 20),
    'num_stages': whole(2, 1000),
    'num_widths': whole(2, 1000),
    'sampler': either(nothing, empty_dict, lambda value: value == {'num_widths': 2}),
    'sandwich': flag,
    'seed': whole(0),
    'slow_start': number(0, 1, without=(1,)),
    'speed': one_of('eager'),  # the others need a sampler of few widths, which the base has not
    'update': one_of('per_width', 'accumulate'),
    'warmup': number(0, 0.5, without=(0.5,)),
    'width_range': lambda value: limits(WIDTH)(value) and not 0 < value[1] - value[0] < 1e-4,
    'width_step': either(nothing, number(0.001, 0.25, without=(0.25,))),  # of one quarter in the first stage
    'WidthSampler.widths': either(nothing, widths),
    # models
    'arch': never,
    'backbone': never,  # nothing among the values is a part that is known
    'base_target': one_of('momentum', 'online'),
    'data_preprocessor': either(nothing, empty_dict),
    'depth': one_of(18, 34, 50, 101, 152),
    'SlimmableHRNet.arch': nothing,
    'SlimmableHRNet.extra': never,
    'SlimmableResLayer.dilation': whole(1, 1),
    'SlimmableResLayer.norm_eval': flag,
    'SlimmableResLayer.stage': whole(3, 3),
    'SlimmableResLayer.stride': whole(2, 2),
    'detector': never,
    'distill_loss': nothing,
    'distill_predictor': nothing,
    'distill': flag,
    'SlimmableDetector.distill': either(nothing, empty_dict, lambda value: value == {'feature': 0.5}),
    'eval_widths': widths,
    'feat_dim': whole(1),
    'gather': flag,
    'head': never,
    'hid_channels': whole(1),
    'momentum': UNIT,
    'momentum_end': either(nothing, UNIT),
    'neck': never,
    'LinearProbe.neck': nothing,
    'norm_cfg': never,
    'num_classes': whole(1),
    'num_images': whole(2),
    'patch_size': SIDES,
    'queue_len': whole(1),
    'require_statistics': flag,
    'same_view_weight': UNIT,
    'student_temperature': number(1e-6),
    'sub_target': one_of('momentum', 'online'),
    'teacher': never,
    'teacher_temperature': number(1e-6),
    'temperature': number(1e-6),
    'width_power': number(-10, 10),
    'with_bias': either(flag, several(flag, 2, 2)),
    'backbone width': either(nothing, WIDTH),
    'broadcast_buffers': flag,
    'find_unused_parameters': either(nothing, flag),
    # views of a batch
    'aspect_ratio_range': limits(number(1e-3, 1e3)),
    'backend': one_of('cv2', 'pillow'),
    'brightness': JITTER,
    'channel_weights': lambda value: several(number(0, 1e6), 3, 3)(value) and sum(value) > 0,
    'channels_last': flag,
    'contrast': JITTER,
    'crop_ratio_range': limits(UNIT),
    'direction': one_of('horizontal', 'vertical'),
    'hue': either(number(0, 0.5), limits(number(-0.5, 0.5))),
    'keep_channels': one_of(True),
    'magnitude_range': limits(number(1e-3, 60)),
    'magnitude_std': one_of('inf'),
    'mean': either(several(number(), 3, 3), several(number(), 1, 1)),
    'num_views': either(whole(1, 100), several(whole(1, 100), 1, 1)),
    'prob': UNIT,
    'saturation': JITTER,
    'scale': SIDES,
    'std': either(several(number(0, without=(0,)), 3, 3), several(number(0, without=(0,)), 1, 1)),
    'thr': number(0, 256),
    'transforms': lambda value: value == [[]],
    'RandomApply.transforms': lambda value: isinstance(value, (list, tuple)) and not value,
    # data and measurements
    'backend_args': either(nothing, lambda value: isinstance(value, dict)),
    'batch': whole(1),
    'color_type': one_of('color', 'grayscale', 'unchanged', 'color_ignore_orientation', 'grayscale_ignore_orientation'),
    'dataset': never,
    'imdecode_backend': either(nothing, one_of('cv2', 'pillow', 'turbojpeg', 'tifffile')),
    'interval': whole(1),
    'TemporalConsistencyHook.interval': either(nothing, whole(1)),
    'max_bad_images': whole(0),
    'MonitorHook.dataset': either(nothing, lambda value: isinstance(value, dict) and 'type' in value),
    'MonitorHook.widths': either(nothing, widths),
    'max_skipped': whole(0),
    'on_bad_image': one_of('stop', 'skip'),
    'on_nonfinite': one_of('stop', 'skip'),
    'LoadResizedCrops.num_views': either(nothing, whole(1, 100)),
    'reduce': flag,
    'few': one_of('1%', '50.5%', '2', '140'),
    'folders': several(lambda value: isinstance(value, str)),
    'ignored_classes': several(lambda value: isinstance(value, str), least=0),
    'DigitPhotos.count': whole(1, 10**6),
    'DigitPhotos.size': whole(16, 160),
    'per_class': either(nothing, whole(1, 140)),
    'repeats': whole(1),
    'sample': whole(0),
    'part': one_of('train', 'val'),
    'val_fraction': either(nothing, number(0, 1, without=(0, 1))),
    'split': one_of('train', 'test'),
    'to_float32': flag,
    'topk': several(whole(1)),
    'measure_latency.warmup': whole(0),
}


class Thing:
    """Of no type that an option takes."""

    def __repr__(self) -> str:
        return 'Thing()'


NAN, INF = math.nan, math.inf
VALUES: tuple[Any, ...] = (
    *(NAN, INF, -INF, -1, 0, 1, 2, 3, 2.0, -0.5, 1e-9, 0.25, 0.5, 0.6, 1.5, 1e39, 1e300, -1e300, 10**30, -(10**30)),
    *(True, False, None, '', 'x', '1', '0.5', 'nan', 'False', 'None', Thing()),
    *(np.float64(0.5), np.int64(2), np.bool_(True), torch.tensor(0.5), torch.tensor([0.5])),
    *((), [], {}, [0.5], [1], [0], [1.5], [True], ['x'], [NAN], [0.5, 1.5], [[]], {'x': 1}, {'type': 'NoSuchType'}),
    *((0.25, 1.0), (1.0, 0.25), (0.5, 0.5), (NAN, 1.0), (0.25, INF), (1, 2), (0, 2)),
)
# Values near the edges of single options.
MORE: dict[str, tuple[Any, ...]] = {
    'channel_weights': ([1, 1, 1], [0, 0, 0], [1, NAN, 1], [-1, 1, 1], [True, 1, 1]),
    'direction': ('vertical', 'diagonal'),
    'distill': ({'feature': 0.5}, {'feature': NAN}, {'feature': -1}, {'feature': '1'}, {'cls': True}),
    'group_reg': ({'alpha': 0.1}, {'alpha': NAN}, {'alpha': 0.2}, {'coefficient': -1}, {'num_groups': 2.0}),
    'hue': (0.7, (-0.5, 0.5), (-0.6, 0.5), (0.5, -0.5)),
    'few': ('1%', '50.5%', '2', '140', '0', '141', '100%', '-1%', 'nan%', '1.5', '%'),
    'folders': (['dog', 'cat'], ['dog', 1], 'dog', []),
    'ignored_classes': (['dog', 'cat'], ['dog', 1], 'dog'),
    'kernel_size': ((3, 3), (3,), (0, 3), (3, 2.0)),
    'magnitude_range': ((0.1, 2.0), (0, 2), (2, 0.1), (1, 1e3)),
    'mean': ([0.0, 1, 2], [0, NAN, 0]),
    'num_groups': (20, 21),
    'num_stages': (999, 1000, 1001, 10**9),
    'num_widths': (1000, 1001, 10**9),
    'padding_mode': ('circular', 'zero'),
    'size': (16, 160, 161),
    'per_class': (5, 141),
    'rounding': ('int', 'floor'),
    'sampler': ({'num_widths': 2}, {'num_widths': 1}, {'width_range': (0.5, 0.5 + 2e-16)}, {'widths': [0.5, 0.5]}),
    'std': ([1.0, 2, 3], [1, 0, 1], [1, -1, 1], [1, NAN, 1]),
    'temperature': (1e-7, 1e-6, 1e30),
    'topk': ([1, 5], [1, 0], [1, 2.0]),
    'update': ('per_width', 'accumulate', 'per_widths'),
    'width_range': ((0.3, 0.9), (0.5, 0.5 + 2e-16), (0.5, 0.5 + 1e-7), (0.5, 0.5, 0.5), (True, 1.0)),
    'width_step': (1e-9, 1e-3, 0.1, 0.2, 0.9),
    'widths': ([0.5, 0.5], [0.5, 0.50000001], [1.0, 0.75, 0.5], (True,), [0.5, '0.25']),
    'with_bias': ([True, False], [True], [True, 'x']),
}
MORE |= {
    'crop_ratio_range': ((0.0, 0.0), (0.2, 1.0)),
    'aspect_ratio_range': ((0.75, 1.25),),
    'eval_widths': MORE['widths'],
}
