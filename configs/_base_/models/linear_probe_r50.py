"""Linear heads on a frozen ResNet-50 for 224 pixels, one for each of the paper's 4 widths on ImageNet."""

_base_ = './linear_probe.py'

model = dict(
    widths=[1.0, 0.75, 0.5, 0.25],
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableResNet', depth=50),
    head=dict(num_classes=1000),
)
