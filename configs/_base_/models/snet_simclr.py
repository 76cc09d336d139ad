"""S-Net with SimCLR: four widths with batch norms of their own, each with the base loss on its own outputs."""

_base_ = './us_simclr.py'

widths = [1.0, 0.75, 0.5, 0.25]
model = dict(
    backbone=dict(
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=widths),
    ),
    distill_loss=None,
    sampler=dict(widths=widths),
)
