"""S-Net's widths, and its layers: batch norms of their own for each width, channels rounded down."""

widths = [1.0, 0.75, 0.5, 0.25]
snet_layers = dict(
    conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
    norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=widths),
)
