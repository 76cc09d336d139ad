"""The width of a fine-tuned network, in one place of its config."""

from mmengine.config import Config, ConfigDict

from us3l_mm.models import SlimmableBackboneMixin
from us3l_mm.registry import MODELS
from us3l_mm.slim import check_width


def _backbone_class(backbone: ConfigDict, scope: str | None) -> type | None:
    """Class that a backbone config names, or None if no registry knows it."""
    if isinstance(backbone.type, type):
        return backbone.type
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.get(backbone.type)


def _out_channels(backbone: ConfigDict, scope: str | None, **changes) -> list[int]:
    """Channels of each output of a backbone config; nothing is loaded."""
    with MODELS.switch_scope_and_registry(scope) as registry:
        return list(registry.build({**backbone, 'init_cfg': None, **changes}).out_channels)


def _reader(model: ConfigDict) -> tuple[str, ConfigDict | None]:
    """Part of the model, with its name, whose ``in_channels`` are the outputs of the backbone."""
    necks = model.get('neck') or []
    parts = [(f'neck[{i}]', neck) for i, neck in enumerate(necks)] if isinstance(necks, list) else [('neck', necks)]
    for name, part in [*parts, ('head', model.get('head'))]:
        if isinstance(part, dict) and 'in_channels' in part:
            return f'model.{name}', part
    return 'model', None


def set_width(cfg: Config, width: float | None = None) -> Config:
    """Set the width of the backbone and the ``in_channels`` that follow from it.

    The width is the argument or else the top-level ``width`` of the config. It goes to
    ``model.backbone.width``; the numbers come from the ``out_channels`` of the backbone. They go to the first
    neck that has ``in_channels`` (all outputs if it takes a list, the last one if it takes a number), and
    without such a neck to ``model.head``. Without a width nothing is changed, and the numbers in the config are
    checked.

    Args:
        cfg (Config): Config of an mmdet or mmpretrain model; changed in place.
        width (float, optional): Width multiplier, in (0, 1].

    Returns:
        Config: ``cfg``.

    Raises:
        TypeError: If the width is not a number.
        ValueError: If the width is outside (0, 1]; if a width is asked of a model whose backbone is not one of
            ours or whose neck and head have no ``in_channels``; or if the ``in_channels`` in the config don't
            match the backbone.
    """
    if width is None:
        width = cfg.get('width')
    if width is not None:
        width = check_width(width)
    model, scope = cfg.get('model', {}), cfg.get('default_scope')
    backbone = model.get('backbone')
    ours = backbone is not None and issubclass(_backbone_class(backbone, scope) or object, SlimmableBackboneMixin)
    if not ours:
        if width is None:
            return cfg
        got = 'a model without backbone' if backbone is None else f'model.backbone.type={backbone.type!r}'
        raise ValueError(
            f"width={width:g} needs a slimmable backbone such as 'us3l_mm.SlimmableResNet', got {got}; "
            'change the type, or drop the width'
        )
    name, reader = _reader(model)
    if reader is None:
        if width is None:
            return cfg
        raise ValueError(
            f'cannot set width={width:g}: neither model.neck nor model.head has in_channels, so it is not known what '
            "reads the backbone; set model.backbone.width and that part's in_channels in the config"
        )
    if width is not None:
        if 'width' in cfg:
            cfg.width = width
        backbone.width = width
    channels = _out_channels(backbone, scope)
    several = isinstance(reader.in_channels, (list, tuple))
    needed = channels if several else channels[-1]
    if width is not None:
        reader.in_channels = needed
    elif (list(reader.in_channels) if several else reader.in_channels) != needed:
        raise ValueError(
            f'{name}.in_channels={reader.in_channels} does not match the backbone: {backbone.type} at '
            f'width={backbone.get("width")} gives out_channels={channels}. Set the width in one place, by `--width` '
            f'or a top-level `width` in the config, or set {name}.in_channels={needed}'
        )
    return cfg
