"""Linear heads on a frozen ResNet-18 for small images, one for each of the paper's 9 widths."""

model = dict(
    type='us3l_mm.LinearProbe',
    widths=[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25],
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18),
    head=dict(type='LinearClsHead', num_classes=100),
)
val_evaluator = dict(type='us3l_mm.WidthAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
