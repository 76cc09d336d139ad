"""From a config and a checkpoint to the plain network they are at one width."""

import os.path as osp
import sys
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import CheckpointLoader
from mmpretrain.models import BaseClassifier
from torch import Tensor, nn

from us3l_mm.config import find_class, read_config, set_width
from us3l_mm.models import SlimmableBackboneMixin, SlimmableLinearClsHead, dense_classifier
from us3l_mm.registry import MODELS
from us3l_mm.slim import SwitchableBatchNorm2d, Width, check_width, parse_key, width_key, width_label

from .plain_config import plain_config, plain_evaluator

_TEST_KEYS = ('test_dataloader', 'test_evaluator', 'test_cfg', 'visualizer')


@dataclass
class PlainModel:
    """A network of one width without any slimmable layer.

    Attributes:
        cfg (Config): ``cfg.model`` builds the model; what is needed to test it is there too, training is not.
        model (nn.Module): mmpretrain classifier (without neck and head if only the backbone was trained) or
            mmdet detector, in evaluation mode.
        part (str): What is exported of it: ``'backbone'``, ``'classifier'`` or ``'detector'``.
        width (float | dict[str, float]): Its width, or the widths of its parts.
        meta (dict): That of the checkpoint.
    """

    cfg: Config
    model: nn.Module
    part: str
    width: float | dict[str, float]
    meta: dict[str, Any]


class Inference(nn.Module):
    """Tensors in, tensors out: what of a model can leave Python.

    Args:
        plain (PlainModel): Its backbone gives a tuple of feature maps, its classifier logits (N, K) without
            softmax, its detector what backbone and neck give; heads and boxes are left out.
    """

    def __init__(self, plain: PlainModel) -> None:
        super().__init__()
        self.backbone = plain.model.backbone
        self.neck = getattr(plain.model, 'neck', None)
        self.head = plain.model.head if plain.part == 'classifier' else None
        self.eval()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map normalised images (N, 3, H, W)."""
        features = self.backbone(images)
        if self.neck is not None:
            features = self.neck(features)
        return tuple(features) if self.head is None else self.head(features)


def plain_model(
    path: str, checkpoint: str | None = None, width: Width | None = None, cfg_options: dict | None = None
) -> PlainModel:
    """Build the plain network that a trained model is at one width.

    Args:
        path (str): Config of a pretraining (only its backbone is taken), of a linear evaluation, of a classifier
            or of a detector, fine-tuned at a width or for all of them.
        checkpoint (str, optional): Its checkpoint; of several widths, one that ``tools/calibrate_bn.py`` wrote.
            Without one the weights are random, which is enough to count costs.
        width (Width, optional): Width multiplier, in (0, 1], or those of parts of the backbone; see
            :func:`us3l_mm.slim.use_width`. Defaults to that of the config.
        cfg_options (dict, optional): Entries of the config to override.

    Raises:
        ValueError: If the width is missing or the model cannot have it; see the message.
        RuntimeError: If the checkpoint belongs to another model, or has no statistics for the width.
    """
    source = read_config(path, cfg_options)
    kind, part = _kind_of(source)
    fixed = _fixed_width(source)
    if width is None and fixed is None:
        raise ValueError(f'{path} leaves the width open: give --width')
    width = check_width(fixed if width is None else width)
    state, meta = (None, {}) if checkpoint is None else _read_checkpoint(checkpoint)
    several = hasattr(kind, 'dense') or (part == 'classifier' and fixed is None and _has_slimmable_head(source))
    cfg, model = _from_several(source, state, width) if several else _from_one(source, part, state, width)
    if part != 'backbone':
        for key in _TEST_KEYS:
            if source.get(key) is not None:
                cfg[key] = source[key]
        if several:
            plain_evaluator(cfg.get('test_evaluator'))
    return PlainModel(cfg, model.eval(), part, width, meta)


def list_widths(path: str, checkpoint: str, cfg_options: dict | None = None) -> list[float]:
    """Widths that the backbone in a checkpoint can run at, from the widest: those with batch-norm statistics.

    Raises:
        ValueError: If the config fixes the width.
        RuntimeError: If no width is calibrated.
    """
    cfg = read_config(path, cfg_options)
    _kind_of(cfg)
    if _fixed_width(cfg) is not None:
        raise ValueError(
            f'{path} fixes the width at {width_label(_fixed_width(cfg))}, so there is nothing to choose. Choose with '
            'the config and the calibrated checkpoint of the pretraining'
        )
    backbone = _build(cfg, cfg.model.backbone)
    state = _read_checkpoint(checkpoint)[0]
    backbone.load_state_dict(
        {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}
    )
    norms = [layer.calibrated for layer in backbone.modules() if hasattr(layer, 'calibrated')]
    norms += [
        {width_key(1.0), *layer.private} for layer in backbone.modules() if isinstance(layer, SwitchableBatchNorm2d)
    ]
    if not norms:
        raise ValueError(f'{cfg.model.backbone.type} has no batch norm, so that every width is ready: give --widths')
    widths = [width for width in map(parse_key, set.intersection(*norms)) if isinstance(width, float)]
    if not widths:
        raise RuntimeError(
            f'{checkpoint} has no batch-norm statistics. Measure them with '
            f'`python tools/calibrate_bn.py {path} {checkpoint}`, or give --widths'
        )
    return sorted(widths, reverse=True)


def _kind_of(cfg: Config) -> tuple[type, str]:
    """Class of the model, and what is exported of it.

    Raises:
        ValueError: If the config has no model whose width can be set.
    """
    scope, model = cfg.get('default_scope', 'mmpretrain'), cfg.get('model') or {}
    if not isinstance(model.get('backbone'), dict) or 'type' not in model:
        raise ValueError(f'{cfg.filename} has no model with a backbone')
    kinds = [find_class(part.type, scope) for part in (model, model.backbone)]
    for part, found in zip((model, model.backbone), kinds):
        if found is None:
            raise ValueError(
                f'no model of type {part.type!r} is registered; check its spelling and default_scope={scope!r}'
            )
    kind, backbone = kinds
    if not issubclass(backbone, SlimmableBackboneMixin):
        raise ValueError(
            f'model.backbone.type={model.backbone.type!r} cannot be built at a fixed width. Name a backbone of '
            "us3l_mm, which has the same checkpoint keys, such as 'us3l_mm.SlimmableResNet' for 'ResNet': "
            '--cfg-options model.backbone.type=us3l_mm.SlimmableResNet'
        )
    mmdet = sys.modules.get('mmdet.models')  # imported by whatever has found a detector
    if mmdet is not None and issubclass(kind, mmdet.BaseDetector):
        return kind, 'detector'
    classifies = hasattr(kind, 'dense') or (issubclass(kind, BaseClassifier) and model.get('head'))
    return kind, 'classifier' if classifies else 'backbone'


def _has_slimmable_head(cfg: Config) -> bool:
    return issubclass(find_class(cfg.model.head.type, cfg.get('default_scope')) or object, SlimmableLinearClsHead)


def _fixed_width(cfg: Config) -> Width | None:
    width = cfg.get('width')
    return cfg.model.backbone.get('width') if width is None else width


def _read_checkpoint(checkpoint: str) -> tuple[dict[str, Tensor], dict]:
    """State dict and meta of a checkpoint of a model with a backbone."""
    if not osp.isfile(checkpoint):
        raise FileNotFoundError(f'no checkpoint {checkpoint}')
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    state = loaded.get('state_dict', loaded)
    if not any(key.startswith('backbone.') for key in state):
        raise RuntimeError(f"{checkpoint} has no keys that start with 'backbone.', got {list(state)[:3]}")
    return state, loaded.get('meta', {})


def _build(cfg: Config, part: ConfigDict) -> nn.Module:
    with MODELS.switch_scope_and_registry(cfg.get('default_scope', 'mmpretrain')) as registry:
        return registry.build(part)


def _from_several(source: Config, state: dict[str, Tensor] | None, width: Width) -> tuple[Config, nn.Module]:
    """Config and plain network of a model that has several widths."""
    model = _build(source, source.model)
    if state is not None:
        model.load_state_dict(state, strict=True)
    if hasattr(model, 'dense'):
        plain = model.dense(width, with_statistics=state is not None)
    else:
        plain = dense_classifier(model, model.head, width, with_statistics=state is not None)
    return plain_config(source, plain), plain


def _from_one(source: Config, part: str, state: dict[str, Tensor] | None, width: Width) -> tuple[Config, nn.Module]:
    """Config and network of a model that is built at its width; the backbone slices its part of the checkpoint."""
    cfg = Config(dict(default_scope=source.get('default_scope', 'mmpretrain'), model=source.model.to_dict()))
    cfg.model.backbone.pop('init_cfg', None)  # the checkpoint has it all
    if part == 'backbone':
        known = source.model.get('data_preprocessor') or {}
        pixels = {key: known[key] for key in ('mean', 'std', 'to_rgb') if key in known}
        cfg.model = dict(type='mmpretrain.ImageClassifier', data_preprocessor=pixels, backbone=cfg.model.backbone)
        cfg.model.backbone.width = width
    else:
        set_width(cfg, width)
        if _fixed_width(source) is None:
            _refuse_changes(source, cfg, width)
    model = _build(cfg, cfg.model)
    if state is not None:
        if part == 'backbone':
            state = {key: value for key, value in state.items() if key.startswith('backbone.')}
        model.load_state_dict(state, strict=True)
    return cfg, model


def _refuse_changes(source: Config, cfg: Config, width: Width) -> None:
    """Raise ValueError if what reads the backbone was trained for a full one."""
    for name in source.model.keys() - {'backbone'}:
        if cfg.model.get(name) != source.model.get(name):
            label = width_label(width)
            raise ValueError(
                f'model.{name} was trained at full width and cannot read the backbone at width {label}. '
                f'Train the model at that width (`tools/train.py {source.filename} --width {label}`), or use '
                "head=dict(type='us3l_mm.SlimmableLinearClsHead')"
            )


@torch.no_grad()
def outputs(net: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Outputs of a network for (N, 3, H, W), always as a tuple."""
    found = net(images)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def image_size(given: list[int] | None, plain: PlainModel) -> tuple[int, int]:
    """Height and width of the images a model is traced or measured with.

    Args:
        given (list[int], optional): One number or two. Defaults to ``img_size`` of the backbone, which is then
            fixed, or else 224.
        plain (PlainModel): The model.

    Raises:
        ValueError: If the numbers make no size, or none is given for a detector.
    """
    if given is None:
        if plain.part == 'detector':
            raise ValueError('the image size of a detector is yours to choose: give --input HEIGHT WIDTH')
        size = getattr(plain.model.backbone, 'img_size', 224)
        return (size, size) if isinstance(size, int) else tuple(size)
    if len(given) > 2 or min(given) < 1:
        raise ValueError(f'--input takes a side, or a height and a width, in pixels, got {given}')
    return given[0], given[-1]
