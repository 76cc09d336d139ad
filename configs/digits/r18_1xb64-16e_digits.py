"""US3L ResNet-18 of 16 base channels on scikit-learn's digits: a real pretraining that fits a laptop.

python tools/train.py configs/digits/r18_1xb64-16e_digits.py
"""

_base_ = ['../_base_/models/us3l_nce.py', '../_base_/datasets/digits_us3l.py', '../_base_/default_runtime.py']

max_epochs = 16
model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=128, hid_channels=256, out_channels=128),
    distill_predictor=dict(in_channels=128, hid_channels=256, out_channels=128),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=22))
