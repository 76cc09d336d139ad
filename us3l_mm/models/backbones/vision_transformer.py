"""Vision Transformer at any width.

Shapes: N images, L tokens, C channels.
"""

from typing import Any

from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models import VisionTransformer
from mmpretrain.models.selfsup.mocov3 import MoCoV3ViT
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

from us3l_mm.registry import MODELS
from us3l_mm.slim import SlimmableLinear, check_size
from us3l_mm.slim.channels import active_channels

from .base import SlimmableBackboneMixin

_MOCOV3_SMALL = ('small', 'mocov3-s', 'mocov3-small')


class SlimmableQKV(SlimmableLinear):
    """Compute queries, keys and values of the active heads, from the first ``c(width)`` inputs.

    Args:
        num_heads (int): Heads at width 1.0.
        *args: As for :class:`torch.nn.Linear`; outputs are (3, heads, channels of a head), flattened.
        **kwargs: As for :class:`torch.nn.Linear`.
    """

    def __init__(self, *args, num_heads: int, **kwargs) -> None:
        super().__init__(*args, slim_in=True, **kwargs)
        self.num_heads = num_heads

    def active(self, in_features: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the active heads, those of which the projection reads at least one channel."""
        weight, bias = super().active(in_features)
        head_dims = self.out_features // 3 // self.num_heads
        heads = -(-active_channels(self.num_heads * head_dims, self.width) // head_dims)
        if heads == self.num_heads:
            return weight, bias
        rows = (3, self.num_heads, head_dims)
        weight = weight.unflatten(0, rows)[:, :heads].flatten(0, 2)
        return weight, None if bias is None else bias.unflatten(0, rows)[:, :heads].flatten()


class SlimmableAttention(MultiheadAttention):
    """mmpretrain's attention with as many heads as its ``qkv`` layer has outputs for."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to (N, L, C)."""
        qkv = self.qkv(x).unflatten(-1, (3, -1, self.head_dims))  # (N, L, 3, heads, head_dims)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = self.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop if self.training else 0.0)
        x = self.proj(x.transpose(1, 2).flatten(2))
        return self.out_drop(self.gamma1(self.proj_drop(x)))


def _slimmable(linear: nn.Linear, kind: type[SlimmableLinear] = SlimmableLinear, **options) -> SlimmableLinear:
    """Slimmable layer with the parameters of ``linear``."""
    layer = kind(linear.in_features, linear.out_features, device='meta', **options)
    layer.weight, layer.bias = linear.weight, linear.bias
    return layer


def _are_learnt(positions: Tensor) -> bool:
    """Whether positions (1, L, C) are neither zeros nor sines and cosines, whose mean square is a half, resized too."""
    mean_square = positions[:, 1:].float().square().mean()  # without the class token, which has no place
    return bool(mean_square != 0 and (mean_square - 0.5).abs() > 0.05)


@MODELS.register_module()
class SlimmableVisionTransformer(SlimmableBackboneMixin, MoCoV3ViT):
    """mmpretrain's MoCo v3 Vision Transformer with slimmable blocks.

    The patch embedding, the class token, the positions, the LayerNorms and the tokens between the layers
    are full at every width. Each linear layer of a block reads only the first ``c(width)`` of its inputs,
    and heads and hidden units that the next layer does not read are not computed.

    Args:
        arch (str | dict): ``'tiny'`` (192 channels, 3 heads), ``'small'`` (384, 12) or ``'base'`` (768, 12),
            each of 12 layers; a name of mmpretrain's, such as ``'b'``, ``'deit-small'`` (384, 6) or ``'mocov3-small'``
            (the same as ``'small'``), but not ``'s'``; or a dict with ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
        patch_size (int): Defaults to 16.
        width (float, optional): Fixed width; see :class:`SlimmableBackboneMixin`. Defaults to None.
        **kwargs: As for :class:`mmpretrain.models.selfsup.mocov3.MoCoV3ViT`, ``img_size``,
            ``stop_grad_conv1`` and ``out_type`` among them.

    Raises:
        ValueError: If ``arch`` is unknown or ambiguous.

    Source: Dosovitskiy et al., ICLR 2021; Chen et al., "An Empirical Study of Training Self-Supervised Vision
    Transformers", ICCV 2021 (heads of ``'small'``); Touvron et al., "DeiT", ICML 2021 (``'tiny'``).
    """

    layers: Any  # mmpretrain's blocks
    layer_defaults: dict[str, dict] = {}
    arch_zoo = {
        **{name: sizes for name, sizes in VisionTransformer.arch_zoo.items() if name not in ('s', 'small')},
        'tiny': VisionTransformer.arch_zoo['deit-tiny'],
        **dict.fromkeys(_MOCOV3_SMALL, dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=4 * 384)),
    }

    def __init__(self, arch: str | dict = 'small', patch_size: int = 16, **kwargs) -> None:
        check_size('patch_size', patch_size)
        if isinstance(arch, str) and arch.lower() not in self.arch_zoo:
            raise ValueError(
                f"arch must be one of {sorted(self.arch_zoo)} or a dict, got {arch!r}; 's' is mmpretrain's of 8 "
                "layers, or MoCo v3's of 12 heads ('mocov3-small'), or DeiT's of 6 ('deit-small')"
            )
        self._of_mocov3 = isinstance(arch, str) and arch.lower() in _MOCOV3_SMALL
        super().__init__(arch=arch, patch_size=patch_size, **kwargs)

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *args, **kwargs) -> None:
        """Refuse DeiT's small net in MoCo v3's, whose shapes are the same; then resize positions as mmpretrain does."""
        positions = state_dict.get(f'{prefix}pos_embed')
        if self._of_mocov3 and positions is not None and _are_learnt(positions):
            raise RuntimeError(
                "the checkpoint has learnt positions, and MoCo v3's small net fixed ones: it is that of another net "
                "with the same shapes, such as DeiT's small one, which has 6 heads and not 12. Set arch='deit-small', "
                'or name embed_dims, num_layers, num_heads and feedforward_channels of the checkpoint in a dict'
            )
        super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)

    def _adapt_layers(self) -> None:
        for block in self.layers:
            if not isinstance(block.ffn, FFN):
                kind = type(block.ffn).__name__
                raise ValueError(f"layer_cfgs gives {kind}, which has no slimmable form; use ffn_type='origin'")
            attention, ffn = block.attn, block.ffn.layers
            attention.__class__ = SlimmableAttention  # differs in its forward only
            attention.qkv = _slimmable(attention.qkv, SlimmableQKV, num_heads=attention.num_heads)
            attention.proj = _slimmable(attention.proj, slim_in=True)
            ffn[0][0] = _slimmable(ffn[0][0], slim_in=True, slim_out=True)
            ffn[1] = _slimmable(ffn[1])
