"""Projector behind a backbone of any width."""

from collections.abc import Sequence

from mmpretrain.models import NonLinearNeck

from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableLinear, check_count, check_flag, check_list, check_part


@MODELS.register_module()
class SlimmableNonLinearNeck(NonLinearNeck):
    """mmpretrain's NonLinearNeck whose first linear layer reads as many inputs as the backbone has.

    Everything after that layer is full at every width. Its batch norms keep no running statistics by
    default, since those would mix widths.

    Args:
        in_channels (int): Channels of the backbone at width 1.0.
        hid_channels (int): Hidden channels.
        out_channels (int): Channels of the embedding.
        with_bias (bool | Sequence[bool]): Whether the linear layers but the last have a bias; one value
            for all or one for each. Defaults to False.
        norm_cfg (dict): Defaults to batch norm without running statistics.
        **kwargs: As for :class:`mmpretrain.models.NonLinearNeck`.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If one is out of its range, or ``with_bias`` is a sequence of another length.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        with_bias: bool | Sequence[bool] = False,
        norm_cfg: dict = dict(type='BN1d', track_running_stats=False),  # noqa: B006  as mmpretrain
        **kwargs,
    ) -> None:
        check_count('in_channels', in_channels)
        check_count('hid_channels', hid_channels)
        check_count('out_channels', out_channels)
        check_part('norm_cfg', norm_cfg)
        try:
            super().__init__(in_channels, hid_channels, out_channels, with_bias=True, norm_cfg=norm_cfg, **kwargs)
        except KeyError as error:  # mmcv's names None
            raise KeyError(f'norm_cfg={norm_cfg} names no norm layer: {error}') from error
        hidden = ['fc0', *self.fc_names[:-1]]
        if isinstance(with_bias, (list, tuple)):
            biases = list(check_list('with_bias', with_bias, bool))
        else:
            biases = [check_flag('with_bias', with_bias)] * len(hidden)
        if len(biases) != len(hidden):
            raise ValueError(
                f'with_bias needs {len(hidden)} values, for all linear layers but the last, got {with_bias}'
            )
        self.fc0 = SlimmableLinear(in_channels, hid_channels, bias=biases[0])
        for name, bias in zip(hidden[1:], biases[1:]):
            if not bias:
                getattr(self, name).register_parameter('bias', None)
