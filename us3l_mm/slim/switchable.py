"""Batch normalisation with parameters and statistics of its own at each listed width."""

from collections.abc import Sequence

from torch import Tensor, nn

from .batchnorm import check_batch_norm
from .channels import slim_channels
from .layers import SlimmableLayer
from .plain_layers import take_tensors
from .width import check_widths, parse_key, width_key, width_label


class SwitchableBatchNorm2d(SlimmableLayer, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` with parameters and running statistics of its own for each listed width.

    Width 1.0 is the layer itself, so that stock checkpoints fit; the others are its children ``private``.
    Statistics are kept in training, and no calibration is needed.

    Args:
        num_features (int): Channels at width 1.0.
        widths (Sequence[float]): The list; 1.0 is always in it.
        rounding (str): Rule of the convolution before it, see :func:`slim_channels`. Defaults to ``'int'``.
        **kwargs: As for :class:`torch.nn.BatchNorm2d`.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option is out of its range; on entering :func:`us3l_mm.slim.use_width` with a width that is
            not in the list.

    Source: Yu et al., "Slimmable Neural Networks", ICLR 2019.
    """

    def __init__(
        self, num_features: int, *args, widths: Sequence[float] = (0.25, 0.5, 0.75), rounding: str = 'int', **kwargs
    ) -> None:
        check_batch_norm((num_features, *args), kwargs)
        widths = check_widths('widths', widths)
        slim_channels(num_features, 1.0, rounding=rounding)  # raises also where the list is 1.0 alone
        super().__init__(num_features, *args, **kwargs)
        self.private = nn.ModuleDict(
            {
                width_key(width): nn.BatchNorm2d(slim_channels(num_features, width, rounding=rounding), *args, **kwargs)
                for width in sorted(widths)
                if width != 1.0
            }
        )

    @property
    def statistics_key(self) -> str:
        """Key of the current width, one of the list."""
        return self.__dict__.get('_key', '1')

    @statistics_key.setter
    def statistics_key(self, key: str) -> None:
        if key != '1' and key not in self.private:
            have = ', '.join(width_label(parse_key(known)) for known in (*self.private, '1'))
            raise ValueError(
                f'switchable batch norm has no width {width_label(parse_key(key))}, only {have}; add it to `widths` of '
                'norm_cfg before training'
            )
        self.__dict__['_key'] = key

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by the batch norm of the current width."""
        return super().forward(x) if self.statistics_key == '1' else self.private[self.statistics_key](x)

    def dense(self, in_channels: int, with_statistics: bool = True) -> nn.BatchNorm2d:
        """Copy the batch norm of the current width; see :meth:`SlimmableLayer.dense`."""
        own = self if self.statistics_key == '1' else self.private[self.statistics_key]
        options = (self.eps, self.momentum, self.affine, self.track_running_stats)
        plain = nn.BatchNorm2d(in_channels, *options, device='meta')
        take_tensors(plain, own, **own._parameters, **own._buffers)
        if not with_statistics:
            plain.reset_running_stats()
        return plain
