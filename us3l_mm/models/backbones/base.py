"""What every slimmable backbone has on top of the stock one."""

import logging
import re
from collections import Counter

from mmengine.logging import print_log
from torch.nn.modules.batchnorm import _BatchNorm

from us3l_mm.slim import SlimmableBatchNorm2d, to_dense, trace_channels
from us3l_mm.slim.batchnorm import width_key

_STATISTICS = re.compile(r'.*\.running_(mean|var)_[0-9_e-]+$')  # of one width, see SlimmableBatchNorm2d


class SlimmableBackboneMixin:
    """Slimmable layers by default, ``width=`` for a fixed narrow net, ``out_channels``, checked loading.

    Put it before a stock backbone that takes ``conv_cfg`` and ``norm_cfg``. Loading a checkpoint, by
    whatever way, raises unless it fits: see :meth:`_check_state_dict`.

    Args:
        width (float, optional): Builds a plain net of this width, with no slimmable layer in it. A
            checkpoint of the full net is sliced as it is loaded. Defaults to None: every width, chosen by
            :func:`us3l_mm.slim.use_width`.
        require_statistics (bool): Whether a fixed width refuses to slice a checkpoint that has no calibrated
            batch-norm statistics for it. False starts them at zero and one, which is right only where batch
            norm trains.
        **kwargs: As for the stock backbone.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each output, at the full or the fixed width.
    """

    def __init__(
        self,
        *args,
        width: float | None = None,
        require_statistics: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            *args,
            conv_cfg=conv_cfg or dict(type='us3l_mm.SlimmableConv2d'),
            norm_cfg=norm_cfg or dict(type='us3l_mm.SlimmableBatchNorm2d', requires_grad=True),
            **kwargs,
        )
        foreign = {
            type(layer).__name__
            for layer in self.modules()
            if isinstance(layer, _BatchNorm) and not isinstance(layer, SlimmableBatchNorm2d)
        }
        if foreign:
            raise ValueError(
                f"norm_cfg must be of type 'us3l_mm.SlimmableBatchNorm2d', got {norm_cfg}, which builds {foreign}. "
                "For batch norm synchronised between GPUs set sync_bn = 'torch' at the top level of the config"
            )
        self.width = width
        self.require_statistics = require_statistics
        _, outputs = trace_channels(self, 1.0 if width is None else width)
        self.out_channels = tuple(output.size(1) for output in outputs)
        self._norm_names = [name for name, layer in self.named_modules() if isinstance(layer, SlimmableBatchNorm2d)]
        self._full_shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if width is not None:
            for name, child in to_dense(self, width, with_statistics=False).named_children():
                setattr(self, name, child)
        self._register_load_state_dict_pre_hook(self._check_state_dict)

    def train(self, mode: bool = True) -> 'SlimmableBackboneMixin':
        """Set the mode as the stock backbone does, and return it, which mmpretrain's ResNet forgets."""
        super().train(mode)
        return self

    def _check_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        """Slice ``state_dict`` in place to this net, or raise if it was made by another one.

        Raises:
            RuntimeError: If the checkpoint misses parameters, has layers that this net lacks or tensors of
                other shapes, or has no statistics of the fixed width.
        """
        given = {key[len(prefix) :]: key for key in state_dict if key.startswith(prefix)}
        if prefix and not given:
            return  # a checkpoint of something else's heads: the loader reports what is missing
        lacking = [name for name, _ in self.named_parameters() if name not in given]
        children = {name for name, _ in self.named_children()}
        foreign = [
            name
            for name in given
            if name not in self._full_shapes and name.split('.')[0] in children and not _STATISTICS.match(name)
        ]
        shapes = {
            name: (tuple(state_dict[given[name]].shape), tuple(tensor.shape))
            for name, tensor in self.state_dict().items()
            if name in given and name in self._full_shapes
        }
        misfit = [name for name, (got, want) in shapes.items() if got not in (want, self._full_shapes[name])]
        if lacking or foreign or misfit:
            raise RuntimeError(
                f'the checkpoint does not fit {type(self).__name__} of depth {getattr(self, "depth", "?")}: '
                f'{len(lacking)} parameters missing {lacking[:3]}, {len(foreign)} layers unknown {foreign[:3]}, '
                f'{len(misfit)} of another shape '
                f'{[f"{name}: got {shapes[name][0]}, needs {shapes[name][1]}" for name in misfit[:3]]}. '
                'Check the depth, the width and, for a whole model, the `prefix` of the checkpoint.'
            )
        if self.width is not None:
            self._slice_state_dict(state_dict, prefix, shapes)

    def _slice_state_dict(self, state_dict: dict, prefix: str, shapes: dict) -> None:
        sliced = [name for name, (got, want) in shapes.items() if got != want]
        per_width = [key for key in state_dict if key.startswith(prefix) and _STATISTICS.match(key)]
        for bn in self._norm_names:
            for which, initial in (('mean', 0), ('var', 1)):
                name = f'{prefix}{bn}.running_{which}'
                measured = f'{name}_{width_key(self.width)}' if sliced and self.width != 1.0 else name
                if measured in state_dict and (state_dict[measured] != initial).any():
                    state_dict[name] = state_dict[measured]
                elif self.require_statistics:
                    raise RuntimeError(
                        f'the checkpoint has no batch-norm statistics for width {self.width:.6g} ({measured}). Measure '
                        f'them with `python tools/calibrate_bn.py CONFIG CHECKPOINT --widths {self.width:.6g}`, or '
                        'set require_statistics=False where batch norm is to train from scratch'
                    )
                else:
                    state_dict[name] = self.get_buffer(f'{bn}.running_{which}').clone()
        for key in per_width:
            del state_dict[key]
        if not sliced:
            return  # made by a net of this very width
        for name in sliced:
            tensor = state_dict[prefix + name]
            state_dict[prefix + name] = tensor[tuple(slice(size) for size in shapes[name][1])]
        parts = Counter(name.split('.')[0] for name in sliced)
        what = f'sliced {len(sliced)} of {len(shapes)} tensors to width {self.width:.6g}: '
        print_log(what + ', '.join(f'{part} ({count})' for part, count in parts.items()), 'current')
        print_log(what + ', '.join(sliced), 'current', logging.DEBUG)
