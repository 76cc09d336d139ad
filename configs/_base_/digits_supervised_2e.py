"""Data with labels, schedule and sizes for a try of a supervised method on scikit-learn's digits."""

_base_ = ['./datasets/digits_linear.py', './default_runtime.py']

max_epochs = 2
train_dataloader = dict(batch_size=64, drop_last=True)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=22))
net = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(stem_channels=16, base_channels=16),
    head=dict(num_classes=10, in_channels=128),
)
