"""Linear evaluation of the small S-Net ResNet-18 on scikit-learn's digits at its 4 widths; nothing to calibrate.

python tools/linear_probe.py configs/digits/snet_r18_1xb128-20e_digits.py CHECKPOINT
"""

_base_ = './r18_1xb128-20e_digits.py'

widths = [1.0, 0.75, 0.5, 0.25]
model = dict(
    widths=widths,
    backbone=dict(
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=widths),
    ),
)
