"""Linear heads on a frozen ResNet-50 for 224 pixels, one for each of the paper's 4 widths on ImageNet."""

_base_ = './linear_probe.py'

model = dict(
    widths=[1.0, 0.75, 0.5, 0.25],
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableResNet', depth=50),
    head=dict(num_classes=1000),
)
