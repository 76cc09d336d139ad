"""Build the dense network of one width from a config and a checkpoint."""

import os.path as osp
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import CheckpointLoader
from mmpretrain.models import BaseClassifier
from torch import Tensor, nn

from us3l_mm.config import find_class, input_size, is_detector, read_config, set_width
from us3l_mm.models import LinearProbe, SlimmableBackboneMixin, SlimmableLinearClsHead, dense_classifier
from us3l_mm.registry import MODELS
from us3l_mm.slim import Width, calibrated_widths, check_width, parse_key, width_label
from us3l_mm.utils.match_checkpoint import match_checkpoint, weights_of

from .plain_config import plain_config, plain_evaluator

_TEST_KEYS = ('test_dataloader', 'test_evaluator', 'test_cfg', 'visualizer')


@dataclass
class PlainModel:
    """A dense network, without slimmable layers.

    Attributes:
        cfg (Config): ``cfg.model`` builds the model. The entries to test it are there too, those to train it are not.
        model (nn.Module): mmpretrain classifier (without neck and head if only the backbone was trained) or
            mmdet detector, in evaluation mode.
        part (str): What is exported: ``'backbone'``, ``'classifier'`` or ``'detector'``.
        width (float | dict[str, float]): Width of the network, or the widths of its parts.
        meta (dict): ``meta`` of the checkpoint.
        size (tuple[int, int], optional): Height and width of the images that it was trained for, by the checkpoint or
            else by the config.
    """

    cfg: Config
    model: nn.Module
    part: str
    width: float | dict[str, float]
    meta: dict[str, Any]
    size: tuple[int, int] | None


class Inference(nn.Module):
    """The layers of a model that can be exported as a program: from tensors to tensors.

    A backbone returns a tuple of feature maps, a classifier logits (N, K) before the softmax, a detector the feature
    maps of its neck; its heads are left out.

    Args:
        plain (PlainModel): Dense network.
    """

    def __init__(self, plain: PlainModel) -> None:
        super().__init__()
        self.backbone = plain.model.backbone
        self.neck = getattr(plain.model, 'neck', None)
        self.head = plain.model.head if plain.part == 'classifier' else None
        self.eval()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run on normalised images (N, 3, H, W)."""
        features = self.backbone(images)
        if self.neck is not None:
            features = self.neck(features)
        return tuple(features) if self.head is None else self.head(features)


def plain_model(
    path: str, checkpoint: str | None = None, width: Width | None = None, cfg_options: dict | None = None
) -> PlainModel:
    """Build the dense network of a trained model at one width.

    Args:
        path (str): Config of a pretraining (only its backbone is taken), a linear probe, a classifier or a detector.
        checkpoint (str, optional): Checkpoint of the model, calibrated by ``tools/calibrate_bn.py`` if the model is
            slimmable. Defaults to None: random weights, which are enough to count costs.
        width (Width, optional): Width in (0, 1], or widths of parts; see :func:`us3l_mm.slim.use_width`. Defaults to
            the width of the config.
        cfg_options (dict, optional): Entries of the config to override.

    Returns:
        PlainModel: The network, its config, width and ``meta``.

    Raises:
        ValueError: If no width is known, or the model cannot have it.
        RuntimeError: If the checkpoint belongs to another model, or is not calibrated for the width.
        FileNotFoundError: If there is no such checkpoint.
    """
    source = read_config(path, cfg_options)
    kind, part = _kind_of(source)
    fixed = _fixed_width(source)
    if width is None and fixed is None:
        raise ValueError(f'{path} leaves the width open: give --width')
    width = check_width(fixed if width is None else width)
    state, meta = (None, {}) if checkpoint is None else _read_checkpoint(checkpoint, source)
    if issubclass(kind, LinearProbe):  # it may have been trained with heads of other widths than the config has
        source.model.widths = [width] if state is None else _probed_widths(state, checkpoint)
    several = hasattr(kind, 'dense') or (part == 'classifier' and _has_slimmable_head(source))
    cfg, model = _from_several(source, state, width) if several else _from_one(source, part, state, width)
    if part != 'backbone':
        for key in _TEST_KEYS:
            if source.get(key) is not None:
                cfg[key] = source[key]
        if several:
            plain_evaluator(cfg.get('test_evaluator'))
    size = meta.get('input_size') or input_size(source) or getattr(model.backbone, 'img_size', None)
    size = (size, size) if isinstance(size, int) else size and tuple(size)
    return PlainModel(cfg, model.eval(), part, width, meta, size)


def list_widths(path: str, checkpoint: str, cfg_options: dict | None = None) -> list[float]:
    """List the widths that a checkpoint is calibrated for and, of a linear probe, has heads for; from the widest.

    Args:
        path (str): Config.
        checkpoint (str): Checkpoint of a model with a slimmable backbone.
        cfg_options (dict, optional): Entries of the config to override.

    Raises:
        ValueError: If the config fixes the width, or the backbone has no batch norm.
        RuntimeError: If no width is calibrated, or the config is a linear probe's and the checkpoint not.
    """
    cfg = read_config(path, cfg_options)
    kind, _ = _kind_of(cfg)
    if _fixed_width(cfg) is not None:
        raise ValueError(
            f'{path} fixes the width at {width_label(_fixed_width(cfg))}, so there is nothing to choose; '
            'give config and calibrated checkpoint of the pretraining'
        )
    backbone = _build(cfg, cfg.model.backbone)
    state = _read_checkpoint(checkpoint, cfg)[0]
    backbone.load_state_dict(  # which refuses what does not fit by itself
        {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}, False
    )
    widths = calibrated_widths(backbone)
    if widths is None:
        raise ValueError(f'{cfg.model.backbone.type} has no batch norm, so that every width is ready: give --widths')
    if issubclass(kind, LinearProbe):
        probed = _probed_widths(state, checkpoint)
        widths = [width for width in widths if width in probed]
    if not widths:
        raise RuntimeError(
            f'{checkpoint} has no batch-norm statistics. Measure them with '
            f'`us3l calibrate {path} {checkpoint}`, or give --widths'
        )
    return widths


def _kind_of(cfg: Config) -> tuple[type, str]:
    """Find the class of the model and what is exported of it, see :class:`PlainModel`.

    Raises:
        ValueError: If the config has no model whose width can be set.
    """
    scope, model = cfg.get('default_scope') or 'mmpretrain', cfg.get('model') or {}
    if not isinstance(model.get('backbone'), dict) or 'type' not in model:
        raise ValueError(f'{cfg.filename} has no model with a backbone; give the config of a training')
    kinds = [find_class(part.type, scope) for part in (model, model.backbone)]
    for part, found in zip((model, model.backbone), kinds):
        if found is None:
            raise ValueError(
                f'no model of type {part.type!r} is registered; check its spelling and default_scope={scope!r}'
            )
    kind, backbone = kinds
    if not issubclass(backbone, SlimmableBackboneMixin):
        raise ValueError(
            f'model.backbone.type={model.backbone.type!r} cannot be built at a fixed width. Name a backbone of us3l_mm '
            'with the same keys, for example --cfg-options model.backbone.type=us3l_mm.SlimmableResNet'
        )
    if is_detector(cfg):
        return kind, 'detector'
    classifies = hasattr(kind, 'dense') or (issubclass(kind, BaseClassifier) and model.get('head'))
    return kind, 'classifier' if classifies else 'backbone'


def _has_slimmable_head(cfg: Config) -> bool:
    return issubclass(find_class(cfg.model.head.type, cfg.get('default_scope')) or object, SlimmableLinearClsHead)


def _fixed_width(cfg: Config) -> Width | None:
    width = cfg.get('width')
    return cfg.model.backbone.get('width') if width is None else width


def _read_checkpoint(checkpoint: str, cfg: Config) -> tuple[dict[str, Tensor], dict]:
    """Read the state dict and ``meta`` of a model with the backbone of a config, or of such a backbone alone."""
    if not osp.isfile(checkpoint):
        raise FileNotFoundError(f'no checkpoint {checkpoint}')
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    match = match_checkpoint(loaded, _build(cfg, cfg.model.backbone), checkpoint)
    if f'.{match.prefix}'.endswith('.backbone.'):  # the rest of the model stands beside it
        start = match.prefix.removesuffix('backbone.')
        state = {key[len(start) :]: value for key, value in weights_of(loaded).items() if key.startswith(start)}
    else:
        state = {f'backbone.{key}': value for key, value in match.state.items()}
    return state, loaded.get('meta') or {}


def _probed_widths(state: dict[str, Tensor], checkpoint: str) -> list[Width]:
    """List the widths that a linear probe has heads for.

    Raises:
        RuntimeError: If there is none.
    """
    heads = dict.fromkeys(key.split('.')[1] for key in state if key.startswith('heads.'))
    if not heads:
        raise RuntimeError(
            f'{checkpoint} has no head of a linear probe: give a checkpoint that `us3l probe` wrote, or this '
            'one with the config of its pretraining'
        )
    return [parse_key(key) for key in heads]


def _build(cfg: Config, part: ConfigDict) -> nn.Module:
    with MODELS.switch_scope_and_registry(cfg.get('default_scope') or 'mmpretrain') as registry:
        return registry.build(part)


def _from_several(source: Config, state: dict[str, Tensor] | None, width: Width) -> tuple[Config, nn.Module]:
    """Config and dense network of a slimmable model."""
    if _fixed_width(source) is not None and not hasattr(_kind_of(source)[0], 'dense'):
        set_width(source, width)  # it may have been trained at another width than its config has
    model = _build(source, source.model)
    if state is not None:
        model.load_state_dict(state, strict=True)
    if hasattr(model, 'dense'):
        plain = model.dense(width, with_statistics=state is not None)
    else:
        plain = dense_classifier(model, model.head, width, with_statistics=state is not None)
    return plain_config(source, plain), plain


def _from_one(source: Config, part: str, state: dict[str, Tensor] | None, width: Width) -> tuple[Config, nn.Module]:
    """Config and dense network of a model that is built at its width; its backbone loads a slice of the checkpoint."""
    cfg = Config(dict(default_scope=source.get('default_scope') or 'mmpretrain', model=source.model.to_dict()))
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
        model.load_state_dict(state, strict=part != 'backbone')  # which refuses what does not fit by itself
    return cfg, model


def _refuse_changes(source: Config, cfg: Config, width: Width) -> None:
    """Raise ValueError if the width changes a part that reads the backbone, and was trained at full width."""
    for name in source.model.keys() - {'backbone'}:
        if cfg.model.get(name) != source.model.get(name):
            label = width_label(width)
            raise ValueError(
                f'model.{name} was trained at full width and cannot read the backbone at width {label}. Train with '
                f"`us3l train {source.filename} --width {label}`, or with the head 'us3l_mm.SlimmableLinearClsHead'"
            )


@torch.no_grad()
def outputs(net: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Run a network on images (N, 3, H, W) and return its outputs as a tuple."""
    found = net(images)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def image_size(given: list[int] | None, plain: PlainModel) -> tuple[int, int]:
    """Choose the height and width of the images that a model is traced or measured with, in pixels.

    Args:
        given (list[int], optional): Side, or height and width. Defaults to the size that the model was trained for.
        plain (PlainModel): The model.

    Raises:
        ValueError: If the numbers make no size, or none is given where neither checkpoint nor config tells it.
    """
    if given is None:
        if plain.size is None:
            raise ValueError(
                'neither the checkpoint nor the config tells the size of images: give --input HEIGHT WIDTH'
            )
        return plain.size
    if len(given) > 2 or min(given) < 1:
        raise ValueError(f'--input takes a side, or a height and a width, in pixels, got {given}')
    return given[0], given[-1]
