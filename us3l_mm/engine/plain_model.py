"""From a config and a checkpoint to the plain network they are at one width."""

import os.path as osp
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models import BaseDetector
from mmengine.config import Config, ConfigDict
from mmengine.runner import CheckpointLoader
from mmpretrain.models import BaseClassifier
from torch import Tensor, nn

from us3l_mm.models import LinearProbe, SlimmableBackboneMixin, SlimmableDetector, SlimmableLinearClsHead
from us3l_mm.registry import MODELS
from us3l_mm.slim import SwitchableBatchNorm2d
from us3l_mm.slim.layers import width_key, width_label

from .load_config import read_config
from .parse_width import check_widths
from .plain_detector import make_plain, plain_state
from .set_width import set_width

# Types of several widths, and what they are at one; arguments that go with them.
_PLAIN_TYPES = {
    'us3l_mm.SlimmableClassifier': 'mmpretrain.ImageClassifier',
    'us3l_mm.LinearProbe': 'mmpretrain.ImageClassifier',
    'us3l_mm.SlimmableLinearClsHead': 'mmpretrain.LinearClsHead',
    'us3l_mm.WidthAccuracy': 'mmpretrain.Accuracy',
}
_TRAINING_ONLY = ('widths', 'eval_widths', 'sampler', 'distill', 'group_reg', 'update', 'by_epoch', 'init_cfg')
_PARTS = {'probe': 'classifier', 'all widths': 'detector'}  # what is exported of a model; of others, what they are
_TEST_KEYS = ('data_preprocessor', 'test_dataloader', 'test_evaluator', 'test_cfg', 'visualizer')


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


def _class_of(part: ConfigDict, scope: str | None) -> type:
    with MODELS.switch_scope_and_registry(scope) as registry:
        found = part.type if isinstance(part.type, type) else registry.get(part.type)
    if found is None:
        raise ValueError(
            f'no model of type {part.type!r} is registered; check its spelling and default_scope={scope!r}'
        )
    return found


def _plain_types(node: Any) -> Any:
    """``node`` with types of several widths replaced by those of one."""
    if isinstance(node, dict):
        node = type(node)({key: _plain_types(value) for key, value in node.items()})
        if isinstance(node.get('type'), str):
            node['type'] = _PLAIN_TYPES.get(node['type'], node['type'])
        return node
    return type(node)(_plain_types(item) for item in node) if type(node) in (list, tuple) else node


def list_widths(path: str, checkpoint: str, cfg_options: dict | None = None) -> list[float]:
    """Widths that the backbone in a checkpoint can run at, from the widest: those with batch-norm statistics.

    Raises:
        ValueError: If the config fixes the width.
        RuntimeError: If no width is calibrated.
    """
    cfg = read_config(path, cfg_options)
    model, _, scope = _parse(cfg)
    if _fixed_width(cfg) is not None:
        raise ValueError(
            f'{path} fixes the width at {width_label(_fixed_width(cfg))}, so there is nothing to choose. Choose with '
            'the config and the calibrated checkpoint of the pretraining; tools/analyze_widths.py compares the costs '
            'of this model'
        )
    with MODELS.switch_scope_and_registry(scope) as registry:
        backbone = registry.build({**model.backbone, 'init_cfg': None})
    state = _load(checkpoint)[0]
    backbone.load_state_dict(
        {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}
    )
    norms = [layer.calibrated for layer in backbone.modules() if hasattr(layer, 'calibrated')]
    norms += [
        {width_key(1.0), *layer.private} for layer in backbone.modules() if isinstance(layer, SwitchableBatchNorm2d)
    ]
    if not norms:
        raise ValueError(f'{model.backbone.type} has no batch norm, so that every width is ready: give --widths')
    widths = [float(key.replace('_', '.')) for key in set.intersection(*norms) if '=' not in key]  # one for all parts
    if not widths:
        raise RuntimeError(
            f'{checkpoint} has no batch-norm statistics. Measure them with '
            f'`python tools/calibrate_bn.py {path} {checkpoint}`, or give --widths'
        )
    return sorted(widths, reverse=True)


def _load(checkpoint: str) -> tuple[dict[str, Tensor], dict]:
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    return loaded.get('state_dict', loaded), loaded.get('meta', {})


def _fixed_width(cfg: Config) -> float | Mapping[str, float] | None:
    width = cfg.get('width')
    return cfg.model.backbone.get('width') if width is None else width


def _parse(cfg: Config) -> tuple[ConfigDict, str, str]:
    """Model, kind (``'backbone'``, ``'probe'``, ``'classifier'``, ``'detector'``, ``'all widths'``) and scope."""
    scope, model = cfg.get('default_scope', 'mmpretrain'), cfg.get('model') or {}
    if not isinstance(model.get('backbone'), dict) or 'type' not in model:
        raise ValueError(f'{cfg.filename} has no model with a backbone')
    backbone, kind = _class_of(model.backbone, scope), _class_of(model, scope)
    if not issubclass(backbone, SlimmableBackboneMixin):
        raise ValueError(
            f'model.backbone.type={model.backbone.type!r} cannot be built at a fixed width. Name a backbone of '
            "us3l_mm, which has the same checkpoint keys, such as 'us3l_mm.SlimmableResNet' for 'ResNet': "
            '--cfg-options model.backbone.type=us3l_mm.SlimmableResNet'
        )
    if issubclass(kind, BaseClassifier) and not model.get('head'):
        return model, 'backbone', scope
    names = {
        LinearProbe: 'probe',
        BaseClassifier: 'classifier',
        SlimmableDetector: 'all widths',
        BaseDetector: 'detector',
    }
    return model, next((name for cls, name in names.items() if issubclass(kind, cls)), 'backbone'), scope


def _target(cfg: Config, width: float | Mapping[str, float] | None) -> tuple[Config, str, float | dict[str, float]]:
    """Config of the plain network, what it came from and its width."""
    model, kind, scope = _parse(cfg)
    fixed = _fixed_width(cfg)
    if width is None and fixed is None:
        raise ValueError(f'{cfg.filename} leaves the width open: give --width')
    width = check_widths(fixed if width is None else width)
    out = Config(dict(default_scope=scope, model=model.to_dict()))
    out.model.backbone.pop('init_cfg', None)  # the checkpoint has it all
    if kind == 'backbone':
        known = model.get('data_preprocessor') or {}
        pixels = {key: known[key] for key in ('mean', 'std', 'to_rgb') if key in known}
        out.model = dict(type='mmpretrain.ImageClassifier', data_preprocessor=pixels, backbone=out.model.backbone)
        out.model.backbone.width = width
        return out, kind, width
    out.merge_from_dict({key: cfg[key] for key in _TEST_KEYS if cfg.get(key) is not None})
    if kind == 'all widths':
        return Config(make_plain(out, width).to_dict()), kind, width
    if kind == 'probe':
        if width_key(width) not in map(width_key, model.widths):
            raise ValueError(f'the probe has no head for width {width_label(width)}, only for {list(model.widths)}')
        out.model.head.in_channels = 1  # set_width puts the right number there
        out.model.setdefault('neck', dict(type='mmpretrain.GlobalAveragePooling'))
    set_width(out, width)
    if kind in ('classifier', 'detector') and fixed is None:
        label = width_label(width)
        for name in model.keys() - {'backbone'}:
            if name == 'head' and issubclass(_class_of(model.head, scope), SlimmableLinearClsHead):
                continue
            if out.model.get(name) != model.get(name):
                raise ValueError(
                    f'model.{name} was trained at full width and cannot read the backbone at width {label}. '
                    f'Train the model at that width (`tools/train.py {cfg.filename} --width {label}`), or use '
                    "head=dict(type='us3l_mm.SlimmableLinearClsHead')"
                )
    if kind != 'detector':
        for key in _TRAINING_ONLY:
            out.model.pop(key, None)
    return Config(_plain_types(out.to_dict())), kind, width


def _state_for(model: nn.Module, kind: str, state: dict[str, Tensor], width: float) -> dict[str, Tensor]:
    """Checkpoint of the trained model under the names of the plain one; the backbone slices its own part."""
    if kind == 'backbone':
        return {key: value for key, value in state.items() if key.startswith('backbone.')}
    if kind == 'probe':
        head = f'heads.{width_key(width)}.'
        renamed = {(f'head.{key[len(head) :]}' if key.startswith(head) else key): v for key, v in state.items()}
        return {key: value for key, value in renamed.items() if not key.startswith('heads.')}
    if kind == 'classifier' and 'head.fc.weight' in state and hasattr(model.head, 'fc'):
        weight = state['head.fc.weight'][:, : model.head.fc.in_features]  # see SlimmableLinearClsHead
        return {**state, 'head.fc.weight': weight}
    return state


def plain_model(
    path: str,
    checkpoint: str | None = None,
    width: float | Mapping[str, float] | None = None,
    cfg_options: dict | None = None,
) -> PlainModel:
    """Build the plain network that a trained model is at one width.

    Args:
        path (str): Config of a pretraining (only its backbone is taken), of a linear evaluation, of a classifier
            or of a detector, fine-tuned at a width or for all of them.
        checkpoint (str, optional): Its checkpoint; of several widths, one that ``tools/calibrate_bn.py`` wrote.
            Without one the weights are random, which is enough to count costs.
        width (float | Mapping[str, float], optional): Width multiplier, in (0, 1], or those of parts of the
            backbone; see :func:`us3l_mm.slim.use_width`. Defaults to that of the config.
        cfg_options (dict, optional): Entries of the config to override.

    Raises:
        ValueError: If the width is missing or the model cannot have it; see the message.
        RuntimeError: If the checkpoint belongs to another model, or has no statistics for the width.
    """
    source = read_config(path, cfg_options)
    cfg, kind, width = _target(source, width)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(cfg.model)
    meta: dict = {}
    if checkpoint is not None:
        if not osp.isfile(checkpoint):
            raise FileNotFoundError(f'no checkpoint {checkpoint}')
        state, meta = _load(checkpoint)
        if not any(key.startswith('backbone.') for key in state):
            raise RuntimeError(f"{checkpoint} has no keys that start with 'backbone.', got {list(state)[:3]}")
        if kind == 'all widths':
            state = plain_state(source.model, cfg.default_scope, state, width)
        model.load_state_dict(_state_for(model, kind, state, width), strict=True)
    model.eval()
    return PlainModel(cfg, model, _PARTS.get(kind, kind), width, meta)


@torch.no_grad()
def outputs(net: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Outputs of a network for (N, 3, H, W), always as a tuple."""
    found = net(images)
    return (found,) if isinstance(found, Tensor) else tuple(found)
