"""Data, schedule and sizes for a short try of a method on scikit-learn's digits.

A config takes the sizes that its method has: ``model = dict(**_base_.net, head=dict(predictor=_base_.predictor))``.
"""

_base_ = ['./datasets/digits_us3l.py', './default_runtime.py']

max_epochs = 2
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=22))
net = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=128, hid_channels=256, out_channels=128),
)
predictor = dict(in_channels=128, hid_channels=256, out_channels=128)
