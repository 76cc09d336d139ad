"""US3L with the MSE base (BYOL), ResNet-18 of 16 base channels on scikit-learn's digits.

python tools/train.py configs/digits/r18_1xb64-16e-mse_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/us3l_mse.py', '../_base_/digits_16e.py']

predictor = dict(in_channels=256, hid_channels=256, out_channels=256)
model = dict(
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, **_base_.net.backbone),
    neck=dict(in_channels=128, hid_channels=256, out_channels=256),
    head=dict(predictor=predictor),
    distill_predictor=predictor,
    group_reg=dict(coefficient=0.5 * 5e-4),
)
