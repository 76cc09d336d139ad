"""Mixin that makes a stock backbone slimmable."""

import copy
import logging
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from us3l_mm.slim import (
    SlimmableBatchNorm2d,
    SlimmableLayer,
    UncalibratedError,
    Width,
    check_flag,
    check_width,
    meta_copy,
    to_dense,
    trace_channels,
    width_label,
)

from .stock_arguments import slimmable_layer, translate_mmdet

_STATISTICS = re.compile(r'.*\.running_(mean|var)_.+')  # of one width, see SlimmableBatchNorm2d
_INITIAL = {'running_mean': 0, 'running_var': 1}


class SlimmableBackboneMixin(nn.Module):
    """Make a stock backbone slimmable, or dense at a fixed ``width``, and check the checkpoints that it loads.

    Put it before a stock backbone. One that takes ``conv_cfg`` and ``norm_cfg`` needs nothing else; others make
    their layers slimmable in :meth:`_adapt_layers`. Arguments may stand as in a config of the stock backbone, see
    :func:`slimmable_layer` and :func:`translate_mmdet`. A checkpoint that does not fit raises however it is loaded, see
    :meth:`_check_state_dict`.

    Args:
        width (Width, optional): Builds the dense net of this width, or of these widths of its parts, which slices
            checkpoints of the full net. Defaults to None: slimmable, see :func:`us3l_mm.slim.use_width`.
        require_statistics (bool): Whether a fixed width refuses a checkpoint that is not calibrated for it. False
            starts the statistics anew, which is right only where batch norm trains. torchvision's checkpoints need it.
        **kwargs: As for the stock backbone; ``layer_defaults`` replace those not given or None.

    Attributes:
        layer_defaults (dict[str, dict]): Configs of layers that make the stock backbone slimmable.
        out_channels (tuple[int, ...]): Channels of each output, at the full or the fixed width.
        full_shapes (dict[str, tuple[int, ...]]): Shapes of the tensors at full width, by key.
    """

    init_weights: Callable[[], None]  # of the stock backbone
    layer_defaults: dict[str, dict] = dict(
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d'),
        norm_cfg=dict(type='us3l_mm.SlimmableBatchNorm2d', requires_grad=True),
    )

    def __init__(self, *args, width: Width | None = None, require_statistics: bool = True, **kwargs) -> None:
        width = None if width is None else check_width(width)
        kwargs = translate_mmdet(type(self), kwargs)
        for name, default in self.layer_defaults.items():
            kwargs[name] = slimmable_layer(name, kwargs.get(name), default)
        super().__init__(*args, **kwargs)
        self._adapt_layers()
        self._refuse_plain_norms()
        self._find_frozen()
        self.width = width
        self.require_statistics = check_flag('require_statistics', require_statistics)
        channels, outputs = trace_channels(self, 1.0 if width is None else width)
        self.out_channels = _channels_of(outputs)
        self.full_shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        self._full_parameters = [name for name, _ in self.named_parameters()]
        if width is not None:
            self._full = (meta_copy(self), channels)  # slices checkpoints; the tuple keeps it out of the modules
            synchronised = any(getattr(layer, 'sync', False) for layer in self.modules())
            narrow = to_dense(self, width, with_statistics=False, channels=channels)
            if synchronised:
                narrow = nn.SyncBatchNorm.convert_sync_batchnorm(narrow)
            for name, child in narrow.named_children():
                setattr(self, name, child)
        self._register_load_state_dict_pre_hook(self._check_state_dict)

    def _adapt_layers(self) -> None:
        """Change the built stock backbone where its arguments do not suffice."""

    def _refuse_plain_norms(self) -> None:
        own = {part for layer in self.modules() if isinstance(layer, SlimmableLayer) for part in layer.modules()}
        plain = {type(m).__name__ for m in self.modules() if isinstance(m, _BatchNorm) and m not in own}
        if plain:
            raise ValueError(
                f'{type(self).__name__} has {plain} that norm_cfg does not reach; replace them in _adapt_layers'
            )

    def _find_frozen(self) -> None:
        """Let batch norms that the stock net trains in evaluation mode start as its own do: by zeros and ones."""
        modes = {module: module.training for module in self.modules()}
        self.train()
        for module, training in modes.items():
            if isinstance(module, SlimmableBatchNorm2d) and module.frozen:
                module.keep_initial_statistics()
            module.training = training

    def channels_at(self, width: Width) -> tuple[int, ...]:
        """Channels of each output at a width."""
        return _channels_of(trace_channels(self, width)[1])

    def dense(self, width: Width, with_statistics: bool = True) -> 'SlimmableBackboneMixin':
        """Convert to the dense network of one width, which shares no memory.

        Args:
            width (Width): Width multiplier, in (0, 1], or those of parts.
            with_statistics (bool): Whether batch norms take the calibrated statistics of that width.

        Raises:
            RuntimeError: If ``with_statistics`` and the width is not calibrated.
            ValueError: If the net is built at another width.
        """
        if self.width is not None:
            if width != self.width:
                raise ValueError(f'the net is built at width {width_label(self.width)}, got {width_label(width)}')
            return copy.deepcopy(self)
        channels, outputs = trace_channels(self, width)
        plain: Any = self._densify(self, check_width(width), channels, with_statistics)
        plain.width, plain.out_channels = check_width(width), _channels_of(outputs)
        plain._full = (meta_copy(self), channels)  # so that it loads full checkpoints as a net built at that width
        return plain

    def _densify(
        self, net: nn.Module, width: Width, channels: dict[str, int], with_statistics: bool = True
    ) -> nn.Module:
        """:func:`to_dense`, with an error that says what to do about missing statistics."""
        try:
            return to_dense(net, width, with_statistics=with_statistics, channels=channels)
        except UncalibratedError as error:
            if self.require_statistics:
                raise self._no_statistics(width) from error
            return to_dense(net, width, with_statistics=False, channels=channels)

    def train(self, mode: bool = True) -> 'SlimmableBackboneMixin':
        """Set the mode as the stock backbone does; return the net, which mmpretrain's ResNet does not."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, SlimmableBatchNorm2d):
                layer.frozen = mode and not layer.training
        return self

    def _check_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        """Slice ``state_dict`` to this net, in place, or raise if it does not fit.

        Raises:
            RuntimeError: If the checkpoint misses parameters, has layers that this net lacks or tensors of
                other shapes, or has no statistics of the fixed width.
        """
        given = {key[len(prefix) :]: tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
        if prefix and not given:
            return  # nothing for this net: the loader reports what is missing
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        full, known = self.full_shapes, {*self.full_shapes, *shapes}
        sliced = [name for name, tensor in given.items() if name in shapes and tuple(tensor.shape) != shapes[name]]
        is_full = self.width is not None and bool(sliced or given.keys() & (full.keys() - shapes.keys()))
        parameters = self._full_parameters if is_full else [name for name, _ in self.named_parameters()]
        lacking = [name for name in parameters if name not in given]
        children = {name for name, _ in self.named_children()}
        foreign = [
            name
            for name in given
            if name not in known and name.split('.')[0] in children and not _STATISTICS.match(name)
        ]
        misfit = [name for name in sliced if tuple(given[name].shape) != full.get(name)]
        if lacking or foreign or misfit:
            depth = f' of depth {self.depth}' if hasattr(self, 'depth') else ''
            raise RuntimeError(
                f'the checkpoint does not fit {type(self).__name__}{depth}: '
                f'{len(lacking)} parameters missing {lacking[:3]}, {len(foreign)} layers unknown {foreign[:3]}, '
                f'{len(misfit)} of another shape '
                f'{[f"{name}: got {tuple(given[name].shape)}, needs {shapes[name]}" for name in misfit[:3]]}. '
                'Check the depth, the width and the `prefix` of the checkpoint.'
            )
        if self.width is None:
            return
        ours = {name: tensor for name, tensor in given.items() if name in known or _STATISTICS.match(name)}
        for name in ours:
            del state_dict[prefix + name]
        unexpected = len(given) - len(ours)
        ours = self._slice(ours, self.width) if is_full else self._with_statistics(ours, self.width)
        state_dict.update({prefix + name: tensor for name, tensor in ours.items()})
        self._log_loaded(width_label(self.width), len(shapes.keys() & given.keys()), len(shapes), unexpected, sliced)

    def _log_loaded(self, width: str, loaded: int, count: int, unexpected: int, sliced: list[str]) -> None:
        """Log how much of a checkpoint was loaded, and what was sliced."""
        print_log(
            f'{type(self).__name__} at width {width}: {loaded} of {count} tensors loaded, {len(sliced)} of them '
            f'sliced; {count - loaded} missing, {unexpected} unexpected',
            'current',
        )
        if sliced:
            parts = Counter(name.split('.')[0] for name in sliced)
            what = f'sliced {len(sliced)} of {count} tensors to width {width}: '
            print_log(what + ', '.join(f'{part} ({number})' for part, number in parts.items()), 'current')
            print_log(what + ', '.join(sliced), 'current', logging.DEBUG)

    def _slice(self, state: dict[str, Tensor], width: Width) -> dict[str, Tensor]:
        """Slice the state of a full net to this net."""
        full, channels = copy.deepcopy(self._full)
        full.load_state_dict(state, strict=False, assign=True)
        narrow = self._densify(full, width, channels)
        own = self.state_dict()  # for what the checkpoint lacks, such as statistics that start anew
        return {name: own[name].clone() if t.is_meta else t for name, t in narrow.state_dict().items()}

    def _with_statistics(self, state: dict[str, Tensor], width: Width) -> dict[str, Tensor]:
        """Complete the state of a net of this width by initial statistics, where it has none."""
        state = {name: tensor for name, tensor in state.items() if not _STATISTICS.match(name)}
        for name, buffer in self.named_buffers():
            initial = _INITIAL.get(name.split('.')[-1])
            counted = state.get(f'{name.rpartition(".")[0]}.num_batches_tracked')
            meant = counted is not None and counted > 0  # see SlimmableBatchNorm2d.keep_initial_statistics
            if initial is None or (name in state and ((state[name] != initial).any() or meant)):
                continue
            if self.require_statistics:
                raise self._no_statistics(width)
            state[name] = buffer.clone()
        return state

    def _no_statistics(self, width: Width) -> RuntimeError:
        label = width_label(width)
        return RuntimeError(
            f'the checkpoint has no batch-norm statistics for width {label} of {type(self).__name__}. Measure them '
            f'by `us3l calibrate CONFIG CHECKPOINT --widths {label}` or, to train batch norm, set '
            'require_statistics=False'
        )


def _channels_of(outputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Channels of each output: (N, C), (N, C, H, W), or tokens (N, L, C)."""
    return tuple(output.size(-1 if output.dim() == 3 else 1) for output in outputs)
